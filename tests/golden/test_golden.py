"""Nothing that users, or results on disk, depend on has moved: identities, records, files, texts, names."""

from __future__ import annotations

import json

import pytest

from tests.golden.make import GOLDENS, path_of
from tests.golden.makers.common import EXACT, FOLDER, PROCESSOR

GROWING = ("identities", "configurations", "plan", "recipes", "costs", "imports")
"""Goldens of catalogues: an addition changes nothing that was there."""
TOLERANCE, NOTHING = 1e-3, 1e-7
"""Between floats of different processors: relative, and absolute for differences of nearly equal numbers."""


@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_nothing_has_moved(name: str) -> None:
    was = json.loads(path_of(name).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(GOLDENS[name]()))
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
