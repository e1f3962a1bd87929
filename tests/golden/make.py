"""Golden files: what must not change when code only moves. Rewrites them: ``python tests/golden/make.py [NAME ...]``.

Every golden is plain text or JSON that does not depend on the processor, the folder or the time. One that has to change
(a technique whose arithmetic was wrong) is rewritten in the commit that changes it, and the commit says why.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
SWEEPS = (*sorted(ROOT.glob("sweeps/*.yaml")), *sorted(ROOT.glob("tests/sweep/corpus/*.yaml")))


def identities() -> dict[str, Any]:
    """Of each sweep file: how many cells it has, the first and last of them, and a digest of all in their order."""
    from dse.sweep import load_sweep

    return {path.relative_to(ROOT).as_posix(): _digest([c.uid for c in load_sweep(path).cells]) for path in SWEEPS}


def configurations() -> dict[str, Any]:
    """Of each sweep file: a digest of the cells' displayed configurations in their order."""
    from dse.sweep import load_sweep

    return {path.relative_to(ROOT).as_posix(): _digest([c.config for c in load_sweep(path).cells]) for path in SWEEPS}


def recipes() -> dict[str, Any]:
    """Every recipe as plain data: what identities are made of."""
    from dse.recipes import RECIPES
    from dse.registry import to_data

    return {name: to_data(recipe) for name, recipe in RECIPES.items()}


def random_streams() -> dict[str, Any]:
    """The first random bits of several keys: (seed, step, layer, point, draw, bits)."""
    from dse.random import key

    cases = [
        (seed, step, layer, point, draw, n)
        for seed, step in ((0, 0), (7, 3), (2**40 + 1, 10**6))
        for layer, point, draw in ((0, 0, 0), (5, 3, 1), (2, 64, 0))
        for n in (1, 8, 11, 16, 32)
    ]
    return {
        " ".join(map(str, case)): key(*case[:4]).fork(case[4]).bits(3, 19, case[5]).flatten()[:24].tolist()
        for case in cases
    }


def costs() -> dict[str, Any]:
    """Every recipe's overhead and time against BF16 on the shapes of every model and every hardware profile."""
    from dse.cost.hardware import HARDWARE
    from dse.cost.overhead import excess, overhead, read_time, relative_time
    from dse.cost.shapes import MODELS
    from dse.recipes import RECIPES

    return {
        f"{name} {model} {profile}": [
            round(measure(recipe, layers, hardware), 9) for measure in (overhead, relative_time, excess, read_time)
        ]
        for name, recipe in RECIPES.items()
        for model, layers in MODELS.items()
        for profile, hardware in HARDWARE.items()
    }


def _digest(words: list[str]) -> dict[str, Any]:
    joined = hashlib.sha256("\n".join(words).encode()).hexdigest()
    return {"number": len(words), "first": words[:1], "last": words[-1:], "sha256": joined[:32]}


GOLDENS: dict[str, Callable[[], dict[str, Any]]] = {
    "identities": identities,
    "configurations": configurations,
    "recipes": recipes,
    "random_streams": random_streams,
    "costs": costs,
}


def path_of(name: str) -> Path:
    """Where a golden lies."""
    return FOLDER / f"{name}.json"


def text_of(content: dict[str, Any]) -> str:
    """A golden as it is written: a line an entry."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in content.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    for name in sys.argv[1:] or GOLDENS:
        path_of(name).write_text(text_of(GOLDENS[name]()), encoding="utf-8")
        print(path_of(name).relative_to(ROOT))
