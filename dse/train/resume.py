"""Checkpointing of one training: load the state to continue from, decide when to write, and collect the state."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from dse.pack.grouping import use_kernels
from dse.results.versions import versions
from dse.train.checkpoint import Checkpoints, Left, read
from dse.train.context import TrainContext, last_line
from dse.train.halving import RungPlan
from dse.train.hooks import Hook, Observer
from dse.train.pack_run import PackRun
from dse.train.processor import described, processor
from dse.trial import ARITHMETIC, Trial


@dataclass
class CheckpointHook(Hook):
    """Writes checkpoints, and leaves the training with one when asked to.

    ``paths``: the files to continue from, if any; ``content_key``: see the function of that name; ``observers``: by
    name, what looks into the training, whose state is part of a checkpoint; ``seconds``: each trial's share of the time
    that was spent before.
    """

    missing = "no_checkpoint_because"

    checkpoints: Checkpoints
    paths: Sequence[Path]
    content_key: dict[str, Any]
    observers: Mapping[str, Observer]
    plan: RungPlan
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._start = time.perf_counter()
        self.checkpoints.begin()

    def load(self, run: PackRun) -> None:
        """Lets a new run continue where the files are; files that do not fit are ignored."""
        keys = (self.content_key, {**self.content_key, "judged": []})  # before a ranking it does not matter who ranks
        contents = [content for path in self.paths if (content := read(path, *keys))]
        if not contents or len(contents) < len(self.paths):
            return
        try:
            seconds = fmean(float(content["seconds"]) for content in contents)
            run.load_state_dict(*(content["course"] for content in contents))
        except (KeyError, TypeError, ValueError):  # of another version of this program
            return
        for name, observer in self.observers.items():
            observer.load_state_dict(*(content.get(name, {}) for content in contents))
        self.seconds = seconds
        run.facts["resumed_at"] = run.steps_done
        if strange := [facts for content in contents if (facts := _other_processor(content))]:
            run.facts["resumed_from"] = strange[0]
            warnings.warn(
                f"step {run.steps_done}: the checkpoint is from another processor ({described(strange[0])}; here "
                f"{described(processor())}); training goes on, and ends with other last bits than on either alone",
                stacklevel=2,
            )

    def after_step(self, run: PackRun) -> None:
        """Writes a checkpoint when it is time. Raises Left, with one written, when asked to leave."""
        pauses = run.steps_done == self.plan.stop_at < run.steps
        if pauses or not self.checkpoints.due():
            return
        self._write(run)
        if self.checkpoints.leaving() and not self.checkpoints.trouble:
            raise Left

    def at_end(self, run: PackRun) -> None:
        """Writes a checkpoint at the rung where the training pauses, unless it has been resumed right there."""
        if run.steps_done == self.plan.stop_at < run.steps and run.facts.get("resumed_at") != run.steps_done:
            self._write(run)

    def _write(self, run: PackRun) -> None:
        try:
            content = {
                "setting": self.content_key,
                "processor": dict(processor()),
                "seconds": self.seconds + (time.perf_counter() - self._start) / len(run.trials),
                "course": run.state_dict(),
            } | {name: observer.state_dict() for name, observer in self.observers.items()}
            uids = [trial.uid for trial in run.trials]
            self.checkpoints.write(uids, run.steps_done, content, self.plan.ranks)
        except Exception as error:  # noqa: BLE001 - too little memory for a copy, say: training goes on without
            self.checkpoints.trouble = last_line(f"{type(error).__name__}: {error}")
        if self.checkpoints.trouble:
            run.facts[self.missing] = self.checkpoints.trouble


def content_key(trials: Sequence[Trial], context: TrainContext, fingerprint: str, ranks: bool) -> dict[str, Any]:
    """Everything besides the members on which a checkpoint depends, as plain data; ``fingerprint``: of the data."""
    halving, device = context.options.halving, context.options.device
    spared = sorted(halving.spared.intersection(trial.uid for trial in trials)) if halving else []
    return {
        "arithmetic": ARITHMETIC,
        "versions": {name: str(version) for name, version in versions().items()},  # torch's own is no plain str
        "device": torch.device(device).type,
        "kernels": use_kernels(device),
        "data": fingerprint,
        "rungs": list(halving.rungs) if halving else [],
        "judged": [halving.eta, *spared] if halving and ranks else [],
        "probes": repr(context.options.probes),
    }


def _other_processor(content: Mapping[str, Any]) -> dict[str, str] | None:
    """The processor that a CPU's checkpoint is from, where it gives other bits than this one."""
    facts = content.get("processor")
    if not facts or content["setting"]["device"] != "cpu" or facts.get("bits") == processor()["bits"]:
        return None
    return dict(facts)


__all__ = ["CheckpointHook", "content_key"]
