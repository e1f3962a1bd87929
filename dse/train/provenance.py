"""What decided a trial's numbers besides its identity: device, machine, and how its pack was computed."""

from __future__ import annotations

import platform
import socket
from typing import Any

import torch

from dse.pack.cuda_graph import GraphedStep
from dse.pack.grouping import unlabeled
from dse.pack.segments import backend
from dse.pack.step import TrainStep
from dse.train.placement import depends_on_place
from dse.train.processor import processor


def provenance(program: TrainStep, stepper: GraphedStep) -> dict[str, Any]:
    """How a pack was computed: its width, what ran as kernels, the CUDA graph, and why not where not; the processor."""
    use_kernels = program.use_kernels
    recipes = dict.fromkeys(unlabeled(trial.recipe) for trial in program.pack.trials)
    reasons = sorted({reason for recipe in recipes if (reason := backend(recipe, use_kernels)[1])})
    facts: dict[str, Any] = {"width": len(program.pack.trials), "kernels": use_kernels, "graph": stepper.captured}
    if reasons:
        facts["reference_because"] = reasons
    if stepper.refused:
        facts["no_graph_because"] = stepper.refused
    if names := depends_on_place(program):
        facts["depends_on_place"] = names
    facts["processor"] = dict(processor())
    return facts


def device_name(device: str) -> str:
    """The device as people name it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.processor() or platform.machine()})"


def host() -> str:
    """This machine's name."""
    return socket.gethostname()
