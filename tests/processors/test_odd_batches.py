"""Packs and trials alone at batch sizes that are no multiple of anything."""

from __future__ import annotations

from typing import Any

import pytest

from dse.tasks import TASKS
from dse.tasks.base import Task
from dse.train.pack_check import BATCHES, compared

OWN: dict[str, Task[Any]] = {
    "diabetes": TASKS["regression"](source="diabetes"),
    "linear": TASKS["regression"](net="linear", noise=0.1),
}
QUICK = {("diabetes", 3), ("linear", 1), ("linear", 33)}


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        pytest.param(name, batch, marks=[pytest.mark.slow] * ((name, batch) not in QUICK))
        for name in OWN
        for batch in BATCHES
    ],
)
def test_a_record_in_a_pack_is_the_one_alone(name: str, batch: int) -> None:
    found = list(compared([OWN[name]], [batch]))
    assert found
    assert [what for what, same in found if not same] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image", "vit", "diffusion", "lm"])
def test_other_nets(name: str) -> None:
    task = TASKS["image"](net="vit") if name == "vit" else TASKS[name]()
    assert [what for what, same in compared([task], (1, 3)) if not same] == []
