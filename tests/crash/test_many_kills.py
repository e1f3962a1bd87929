"""A few kills of every scene of ``kills``, among the slow tests; `make test-kills` makes a hundred."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.kills import SCENES, Scene, play

pytestmark = [pytest.mark.crash, pytest.mark.slow]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_nothing_is_lost_doubled_or_changed(scene: Scene, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    books = play(scene, tmp_path, 3, random.Random(seed))
    assert books.kills.total() >= 3
    assert (books.lost, books.doubled, books.changed) == (0, 0, 0), books
