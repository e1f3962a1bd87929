"""Golden of error texts: what wrong sweep files, wrong options and wrong tasks are refused with, word by word."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.golden.makers.common import ROOT, SWEEPS, digest, relative
from tests.golden.makers.wrong import FILES, OPTIONS, TASKS, TRAININGS
from tests.sweep.mutants import mutant
from tests.sweep.test_errors import MISTAKES

MUTANTS = 20
"""Of each sweep file."""


def errors(mutants: int = MUTANTS) -> dict[str, Any]:
    """What is said to each wrong thing; the cells where a change of a sweep file has left it valid."""
    return dict(_all(mutants))


def _all(mutants: int) -> Iterator[tuple[str, str]]:
    with TemporaryDirectory() as folder, chdir(folder):
        for name, (text, _) in MISTAKES.items():
            yield f"mistake: {name}", _refusal({"x.yaml": text})
        for name, files in FILES.items():
            yield f"files: {name}", _refusal(files)
        for path in SWEEPS:
            text, chance = path.read_text(encoding="utf-8"), random.Random(relative(path))
            if "\ninclude:" in text:  # its mutants would only miss what it builds on
                continue
            for number in range(mutants):
                yield f"changed: {relative(path)} {number}", _refusal({"x.yaml": mutant(text, chance)})
        yield from _options()
        yield from _tasks()


def _refusal(files: dict[str, str]) -> str:
    """What the sweep x.yaml is refused with, beside other files."""
    from dse.sweep import load_sweep

    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8", errors="surrogatepass")
    said = _said(lambda: _content([cell.uid for cell in load_sweep(Path("x.yaml")).cells]))
    for name in files:
        Path(name).unlink()
    return said


def _content(uids: list[str]) -> str:
    return f"no error: {len(uids)} cells {digest(' '.join(uids))}"


def _options() -> Iterator[tuple[str, str]]:
    from dse.numerics.recipe import override
    from dse.recipes import RECIPES

    for recipe, path, value in OPTIONS:
        yield f"option: {recipe} {path} {value!r}", _said(partial(override, RECIPES[recipe], path, value))


def _tasks() -> Iterator[tuple[str, str]]:
    from dse.tasks.base import Training
    from dse.trial import make_task

    for task, options in TASKS:
        yield f"task: {task} {options!r}", _said(partial(make_task, task, options))
    for options in TRAININGS:
        settings: dict[str, Any] = {"steps": 4, "batch": 2, "lr": 1e-3} | options
        yield f"training: {options!r}", _said(partial(Training, **settings))


def _said(act: Callable[[], Any]) -> str:
    from dse.errors import UserError

    try:
        found = act()
    except UserError as error:
        kind = type(error).__name__
        text = str(error).replace(str(Path.cwd()), "FOLDER").replace(str(ROOT), "ROOT").replace(sys.prefix, "PYTHON")
        return f"{kind}: {text}"
    return found if isinstance(found, str) else "no error"
