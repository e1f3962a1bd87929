"""Check that trials give the same bits in a pack as alone on this processor; takes about a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dse.recipes import RECIPES
from dse.results.record import Record
from dse.tasks.base import Task
from dse.train.loop import run_pack, run_trial
from dse.trial import Trial, make_task

BATCHES = (1, 3, 5, 33)
"""Odd sizes: members begin at differently aligned addresses, and products have rows and columns of every remainder."""
MIX = ("bf16", "nvfp4", "mxfp4_rht_sr", "quartet", "fp4_all_the_way")
"""Recipes with and without rotation, random bits and a derivative of their own."""


def compared(tasks: Sequence[Task[Any]] | None = None, batches: Sequence[int] = BATCHES) -> Iterator[tuple[str, bool]]:
    """(a trial, whether its record in a pack is that of the trial alone), for each task, batch size and recipe."""
    for task in small() if tasks is None else tasks:
        for batch in batches:
            training = replace(task.training(), steps=2, batch=batch, eval_every=0)
            trials = [Trial(task, training, RECIPES[name], seed) for seed, name in enumerate(MIX)]
            for trial, record in zip(trials, run_pack(trials), strict=True):
                yield f"{task}, batch of {batch}, {trial.recipe.name}", content(record) == content(run_trial(trial))


def small() -> list[Task[Any]]:
    """Two tasks that train in milliseconds; differences show most in the linear one."""
    return [make_task("regression", {"net": "linear", "noise": 0.1}), make_task("regression", {})]


def content(record: Record) -> str:
    """A record without its provenance and times. Raises RuntimeError where the trial failed."""
    if record.error:
        raise RuntimeError(record.error.strip().splitlines()[-1])
    return replace(record, seconds=0.0, started="", pack={}).line()


__all__ = ["BATCHES", "MIX", "compared", "content"]
