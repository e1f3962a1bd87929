"""Warm-up: the kernels of packs are compiled before they train (``dse.pack.compile_ahead``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dse.kernels.availability import Gpu, interpreted
from dse.pack.compile_ahead import Ahead, Say, compile_ahead, to_stderr
from dse.pack.grouping import signature, unlabeled, use_kernels
from dse.pack.step import TrainStep
from dse.tasks.base import Task
from dse.trial import Trial

_NOTHING = Ahead(0, 0.0, 0, ())


class _Process:
    """``known``: packs whose kernels this process has seen to; ``told``: whether it has said that something failed."""

    known: ClassVar[set[Any]] = set()
    told = False


def compile_step(step: TrainStep, say: Say = to_stderr) -> Ahead:
    """Compiles the kernels of a pack that is about to train on a GPU, once for all packs of its kind in this process.

    The first problem in a process is said; kernels that were not compiled here are compiled as they are needed.
    """
    if step.pack.device.type != "cuda" or not step.use_kernels or interpreted():
        return _NOTHING
    kind = tuple((signature(trial), unlabeled(trial.recipe)) for trial in step.pack.trials)
    if kind in _Process.known:
        return _NOTHING
    _Process.known.add(kind)
    found = compile_ahead([(step.pack.trials, step.data)], Gpu.of(step.pack.device), say=say)
    if found.problems and not _Process.told:
        _Process.told = True
        say(f"not all kernels were compiled ahead, others will be as they are needed: {found.problems[0]}")
    return found


def warm(packs: Sequence[Sequence[Trial]], device: str, data_dir: Path | None, processes: int, say: Say) -> Ahead:
    """Compiles the kernels of many packs; elsewhere than on a GPU there are none.

    Trials after training launch none themselves: those of the trainings that they need are compiled. A pack that fails
    here is left out; its own training will report the error.
    """
    return compile_packs(packs, data_dir, Gpu.of(device), processes, say) if use_kernels(device) else _NOTHING


def compile_packs(packs: Sequence[Sequence[Trial]], data_dir: Path | None, gpu: Gpu, processes: int, say: Say) -> Ahead:
    """The same for any GPU, which may be elsewhere."""
    problems: list[str] = []

    def loaded() -> Iterator[tuple[Sequence[Trial], Any]]:
        data: dict[Task[Any], Any] = {}
        for trials in packs:
            trials, task = _trained(trials), trials[0].task
            try:
                if task not in data:
                    data[task] = task.load(data_dir)
            except Exception as error:  # noqa: BLE001 - its own training will report it
                problems.append(f"{task.name}: {error}")
                continue
            yield trials, data[task]

    found = compile_ahead(loaded(), gpu, processes, say=say)
    return found._replace(problems=(*problems, *found.problems))


def _trained(trials: Sequence[Trial]) -> list[Trial]:
    """What is trained for a pack's trials: themselves, or what they quantize."""
    if trials[0].recipe.post is None:
        return list(trials)
    return list({own.uid: own for trial in trials for own in trial.needs}.values())


__all__ = ["compile_packs", "compile_step", "warm"]
