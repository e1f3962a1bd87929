"""Nothing that users, or results on disk, depend on has moved: identities, records, files, texts, names."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest

from tests.golden.make import GOLDENS, path_of
from tests.golden.makers.common import EXACT, FOLDER, PROCESSOR
from tests.golden.makers.errors import errors
from tests.golden.makers.report import report

GROWING = ("identities", "configurations", "plan", "recipes", "costs", "imports")
"""Goldens of catalogues: an addition changes nothing that was there."""
TOLERANCE, NOTHING = 1e-3, 1e-7
"""Between floats of different processors: relative, and absolute for differences of nearly equal numbers."""


PARTS = {"errors": partial(errors, mutants=5), "report": partial(report, ("study",))}
"""What is compared of the goldens that take longest, where not all is."""
LEFT_OUT = {
    "errors": re.compile(r"changed: .* (?!0\d)([5-9]|\d\d)"),
    "report": re.compile(r".*\b(ladder|hunt): .*|files"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] * (name in PARTS)) for name in sorted(GOLDENS)]
)
def test_nothing_has_moved(name: str) -> None:
    compare(name, json.loads(path_of(name).read_text(encoding="utf-8")), GOLDENS[name]())


@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_not_moved(name: str) -> None:
    """The errors of fewer changed sweep files; the report of one sweep of three."""
    whole = json.loads(path_of(name).read_text(encoding="utf-8"))
    part = {entry: value for entry, value in whole.items() if not LEFT_OUT[name].fullmatch(entry)}
    assert 0 < len(part) < len(whole)
    now = PARTS[name]()
    now.pop("files", None)
    compare(name, part, now)


def compare(name: str, was: dict[str, Any], made: dict[str, Any]) -> None:
    now = json.loads(json.dumps(made))
    skipped = {entry for entry in was if entry.startswith(EXACT)} if now.get(PROCESSOR) != was.get(PROCESSOR) else set()
    skipped.add(PROCESSOR)
    missing = sorted(set(was) - set(now))
    assert not missing, f"gone: {missing}"
    if name not in GROWING:
        assert set(now) <= set(was), f"added: {sorted(set(now) - set(was))}"
    changed = [entry for entry in was if entry not in skipped and not same(was[entry], now[entry])]
    told = [f"{entry}:\n  was {was[entry]}\n  now {now[entry]}" for entry in changed[:5]]
    assert not changed, f"other than in {path_of(name).name}: {len(changed)} entries\n" + "\n".join(told)


def test_every_file_has_its_maker() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(GOLDENS)


def same(was: object, now: object) -> bool:
    """Whether two entries are equal; floats nearly, since their last bits depend on the processor."""
    if type(was) is not type(now):
        return False
    if isinstance(was, float) and isinstance(now, float):
        return was == now or abs(was - now) <= TOLERANCE * max(abs(was), abs(now)) + NOTHING
    if isinstance(was, dict) and isinstance(now, dict):
        return set(was) == set(now) and all(same(value, now[name]) for name, value in was.items())
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(same, was, now))
    return was == now
