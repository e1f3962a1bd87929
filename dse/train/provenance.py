"""Provenance of a record: device, machine, and how the pack was computed."""

from __future__ import annotations

import platform
import socket
from typing import Any

import torch

from dse.kernels import cpu_loops
from dse.pack.backend import uncovered
from dse.pack.cuda_graph import GraphedStep
from dse.pack.grouping import unlabeled
from dse.pack.step import TrainStep
from dse.train.machine_use import commit
from dse.train.placement import depends_on_place
from dse.train.processor import processor


def provenance(train_step: TrainStep, graphed_step: GraphedStep) -> dict[str, Any]:
    """How a pack was computed: width, kernels and CUDA graph (or why there are none), and the processor.

    ``compiled``: whether the CPU's loops, which give the same bits, were in use at the end.
    """
    use_kernels = train_step.use_kernels
    recipes = dict.fromkeys(unlabeled(trial.recipe) for trial in train_step.pack.trials)
    reasons = sorted({reason for recipe in recipes if use_kernels for reason in map(str, uncovered(recipe))})
    facts: dict[str, Any] = {
        "width": len(train_step.pack.trials),
        "kernels": use_kernels,
        "graph": graphed_step.captured,
    }
    if train_step.pack.device.type == "cpu":
        facts["compiled"] = cpu_loops.in_use()
    if reasons:
        facts["reference_because"] = reasons
    if graphed_step.refused:
        facts["no_graph_because"] = graphed_step.refused
    if names := depends_on_place(train_step):
        facts["depends_on_place"] = names
    if own := commit():
        facts["commit"] = own
    facts["processor"] = dict(processor())
    return facts


def device_name(device: str) -> str:
    """The name of the device: of the GPU's model, or of the CPU's architecture."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.processor() or platform.machine()})"


def host() -> str:
    """This machine's name."""
    return socket.gethostname()
