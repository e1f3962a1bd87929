"""What one training has to do with checkpoints: where it begins, when it writes one, and what is in it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from dse.pack.grouping import use_kernels
from dse.probes.prober import Prober
from dse.results.versions import versions
from dse.train.checkpoint import Checkpoints, ContentKey, Left, read
from dse.train.context import TrainContext, last_line
from dse.train.pack_run import PackRun
from dse.train.processor import described, processor
from dse.trial import ARITHMETIC, Trial


class CheckpointHook:
    """``paths``: the files to go on from, if any; ``setting``: see ``setting``; ``judged``: see ``Checkpoints.write``.

    ``seconds``: that each trial has taken already, its share of its pack's time.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        paths: Sequence[Path],
        setting: dict[str, Any],
        prober: Prober | None,
        judged: bool = False,
    ) -> None:
        self._checkpoints, self._paths, self._setting, self._prober = checkpoints, paths, setting, prober
        self._judged = judged
        self._start = time.perf_counter()
        self.seconds = 0.0
        self.facts: dict[str, Any] = {}
        if checkpoints:
            checkpoints.begin()

    def restore(self, course: PackRun) -> None:
        """Lets a new course go on where the files are; what does not fit is left alone."""
        contents = [content for path in self._paths if (content := read(path, self._setting, _plain(self._setting)))]
        if not contents or len(contents) < len(self._paths):
            return
        try:
            seconds = fmean(float(content["seconds"]) for content in contents)
            course.restore(*(content["course"] for content in contents))
        except (KeyError, TypeError, ValueError):  # of another version of this program
            return
        if self._prober:
            self._prober.restore(*(content["probes"] for content in contents))
        self.seconds, self.facts = seconds, {"resumed_at": course.step}
        if strange := [facts for content in contents if (facts := _elsewhere(content))]:
            self.facts["resumed_from"] = strange[0]
            warnings.warn(
                f"step {course.step}: the checkpoint is from another processor ({described(strange[0])}; here "
                f"{described(processor())}); training goes on, and ends with other last bits than on either alone",
                stacklevel=2,
            )

    def keep(self, course: PackRun, now: bool = False) -> None:
        """After every step: writes a checkpoint when it is time, or ``now``. Raises Left where the training is to end
        with it, unless it ends anyway (``now``)."""
        if self._checkpoints is None or not (now or self._checkpoints.due()):
            return
        try:
            content = {
                "setting": self._setting,
                "processor": dict(processor()),
                "seconds": self.seconds + (time.perf_counter() - self._start) / len(course.trials),
                "course": course.save(),
                "probes": self._prober.save() if self._prober else {},
            }
            self._checkpoints.write([trial.uid for trial in course.trials], course.step, content, self._judged)
        except Exception as error:  # noqa: BLE001 - too little memory for a copy, say: training goes on without
            self._checkpoints.trouble = last_line(f"{type(error).__name__}: {error}")
        if self._checkpoints.trouble:
            self.facts["no_checkpoint_because"] = self._checkpoints.trouble
        elif self._checkpoints.leaving() and not now:
            raise Left


def setting(trials: Sequence[Trial], setup: TrainContext, fingerprint: str, judged: bool = False) -> dict[str, Any]:
    """Everything besides the members that a checkpoint depends on, as plain data; ``fingerprint``: of the data."""
    halving = setup.halving
    spared = sorted(halving.spared.intersection(trial.uid for trial in trials)) if halving else []
    return {
        "arithmetic": ARITHMETIC,
        "versions": {name: str(version) for name, version in versions().items()},  # torch's own is no plain str
        "device": torch.device(setup.device).type,
        "kernels": use_kernels(setup.device),
        "data": fingerprint,
        "rungs": list(halving.rungs) if halving else [],
        "judged": [halving.eta, *spared] if halving and judged else [],
        "probes": repr(setup.probes),
    }


def _elsewhere(content: Mapping[str, Any]) -> dict[str, str] | None:
    """The processor that a CPU's checkpoint is from, where it gives other bits than the one at hand."""
    facts = content.get("processor")
    if not facts or content["setting"]["device"] != "cpu" or facts.get("bits") == processor()["bits"]:
        return None
    return dict(facts)


def _plain(own: ContentKey) -> Mapping[str, Any]:
    """Of packs that were not judged yet: whatever company they were in, their members may be."""
    return {**own, "judged": []}


__all__ = ["CheckpointHook", "setting"]
