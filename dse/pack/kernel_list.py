"""The kernels of a pack's train step and evaluation, known before it has any memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.kernels.availability import Gpu
from dse.kernels.recording import OnKernel, recording
from dse.pack.step import TrainStep
from dse.tasks.base import to_device
from dse.trial import Trial


def list_kernels(trials: Sequence[Trial], data: Any, gpu: Gpu, on_kernel: OnKernel) -> None:
    """Hands ``on_kernel`` each kernel that a step, and held-out batches, of a pack need on ``gpu``.

    ``trials``: in the pack's order (``member_order``); ``data``: on any device. The pack stands on the device 'meta',
    so neither its own state nor a GPU's memory is touched. Raises what a technique raises that looks at numbers.
    """
    with recording(gpu, on_kernel):
        step = TrainStep(trials, data, "meta", use_kernels=True)
        step.data = to_device(data, "meta")
        step.step()
        shapes = set()
        for batch in step.task.held_out(step.data):
            shape = tuple(t.shape for t in batch)
            if shape not in shapes:
                shapes.add(shape)
                step.pack.measure(batch)
                with step.pack.as_baseline():
                    step.pack.measure(batch)
