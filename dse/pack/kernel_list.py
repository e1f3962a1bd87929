"""The kernels of a pack's train step and evaluation, known before it has any memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dse.kernels.availability import Gpu
from dse.kernels.recording import OnKernel, recording
from dse.numerics.techniques.schedules import Schedule
from dse.pack.step import TrainStep
from dse.tasks.base import to_device
from dse.trial import Trial


def list_kernels(trials: Sequence[Trial], data: Any, gpu: Gpu, on_kernel: OnKernel) -> None:
    """Hands ``on_kernel`` each kernel that a step, and held-out batches, of a pack need on ``gpu``.

    ``trials``: in the pack's order (``member_order``); ``data``: on any device. The pack stands on the device 'meta',
    so neither its own state nor a GPU's memory is touched. Precision schedules that go by the step are followed; one
    that goes by what it sees in training stays in its first phase. Raises what a technique raises that looks at
    numbers.
    """
    with recording(gpu, on_kernel):
        step = TrainStep(trials, data, "meta", use_kernels=True)
        step.data = to_device(data, "meta")
        for at in _changes(trials):
            step.pack.reschedule(at, step.steps)
            step.step()
            _evaluate(step)


def _evaluate(step: TrainStep) -> None:
    shapes = set()
    for batch in step.task.held_out(step.data):
        shape = tuple(t.shape for t in batch)
        if shape not in shapes:
            shapes.add(shape)
            step.pack.measure(batch)
            with step.pack.as_baseline():
                step.pack.measure(batch)


def _changes(trials: Sequence[Trial]) -> list[int]:
    """Step 0, and those at which a member's schedule goes to another phase."""
    steps = trials[0].training.steps
    schedules = {own.schedule for trial in trials for own in trial.recipe.numerics if own.schedule is not None}
    return sorted({0}.union(*(_turns(schedule, steps) for schedule in schedules)))


def _turns(schedule: Schedule, steps: int) -> list[int]:
    phases = ["full"]
    for step in range(steps):
        phases.append(schedule.phase(step, steps, None, phases[-1]))
    return [step for step, (before, after) in enumerate(pairwise(phases)) if before != after]
