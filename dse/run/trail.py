"""What one training has to do with checkpoints: where it begins, when it writes one, and what is in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dse.pack.lineup import use_kernels
from dse.probes.prober import Prober
from dse.run.checkpoint import Checkpoints, read
from dse.run.course import Course
from dse.run.provenance import versions
from dse.run.setup import Setup
from dse.trial import ARITHMETIC, Trial


class Trail:
    """``path``: the file to go on from, if any; ``setting``: see ``setting``.

    ``seconds``: that each trial has taken already, its share of its pack's time.
    """

    def __init__(
        self, checkpoints: Checkpoints | None, path: Path | None, setting: dict[str, Any], prober: Prober | None
    ) -> None:
        self._checkpoints, self._path, self._setting, self._prober = checkpoints, path, setting, prober
        self._start = time.perf_counter()
        self.seconds = 0.0
        self.facts: dict[str, Any] = {}
        if checkpoints:
            checkpoints.begin()

    def restore(self, course: Course) -> None:
        """Lets a new course go on where the file is; what does not fit is left alone."""
        content = read(self._path, self._setting) if self._path else None
        if content is None:
            return
        try:
            seconds = float(content["seconds"])
            course.restore(content["course"])
        except (KeyError, TypeError, ValueError):  # of another version of this program
            return
        if self._prober:
            self._prober.restore(content["probes"])
        self.seconds, self.facts = seconds, {"resumed_at": course.step}

    def keep(self, course: Course) -> None:
        """After every step: writes a checkpoint when it is time. Raises Left when the training is to end with it."""
        if self._checkpoints is None or not self._checkpoints.due():
            return
        content = {
            "setting": self._setting,
            "seconds": self.seconds + (time.perf_counter() - self._start) / len(course.trials),
            "course": course.save(),
            "probes": self._prober.save() if self._prober else {},
        }
        self._checkpoints.write([trial.uid for trial in course.trials], course.step, content)
        if self._checkpoints.trouble:
            self.facts["no_checkpoint_because"] = self._checkpoints.trouble


def setting(trials: Sequence[Trial], setup: Setup, fingerprint: str) -> dict[str, Any]:
    """Everything besides the members that a checkpoint depends on, as plain data; ``fingerprint``: of the data."""
    halving = setup.halving
    spared = sorted(halving.spared.intersection(trial.uid for trial in trials)) if halving else []
    return {
        "arithmetic": ARITHMETIC,
        "versions": {name: str(version) for name, version in versions().items()},  # torch's own is no plain str
        "device": torch.device(setup.device).type,
        "kernels": use_kernels(setup.device),
        "data": fingerprint,
        "halving": [halving.eta, *halving.rungs, *spared] if halving else [],
        "probes": repr(setup.probes),
    }


__all__ = ["Trail", "setting"]
