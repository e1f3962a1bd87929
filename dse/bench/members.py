"""Packs to time: their trials, the program that trains them, and what is worth knowing about how it was computed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from dse.bench.models import Subject
from dse.bench.pace import pace, peak, tidy
from dse.bench.solo import load
from dse.pack.lineup import ordered, use_kernels
from dse.recipes import RECIPES
from dse.run.graph import Stepper
from dse.run.program import Program
from dse.run.provenance import provenance
from dse.trial import Trial
from tasks.base import Batch, Model

MIX = ("nvfp4", "mxfp4", "nvfp4_plain", "ue5m3", "mxfp4_rht_sr", "quartet", "mxfp8", "bf16")
"""The recipes of a mixed pack."""


def trials(subject: Subject, width: int, recipes: Sequence[str] = MIX) -> list[Trial]:
    """``width`` trials that go through the recipes, then through the seeds."""
    count = len(recipes)
    return [Trial(subject.task, subject.training, RECIPES[recipes[i % count]], i // count) for i in range(width)]


class Running:
    """A pack that trains: ``step()`` is one real step of all members, from a CUDA graph where one can be captured."""

    def __init__(self, members: Sequence[Trial], device: str) -> None:
        kernels = use_kernels(device)
        lineup = [members[i] for i in ordered(members, kernels)]
        self.program = Program(lineup, load(members[0].task, device), device, kernels)
        self.stepper = Stepper(self.program.step, self.program.pack.device)
        self._steps = 0

    def step(self) -> None:
        """A training's end is its new start: the learning rates and the log have a row per step."""
        if self._steps == self.program.steps:
            self.program.pack.clock[:, 1].zero_()
            self._steps = 0
        self.stepper()
        self._steps += 1

    def note(self) -> str:
        """Kernels and graph, yes or no and why, and who diverged."""
        facts = provenance(self.program, self.stepper)
        reasons = "; ".join(filter(None, facts.get("reference_because", ())))
        reasons = "for all but: " + reasons if reasons and facts["kernels"] else reasons
        reasons = reasons or ("" if facts["kernels"] else "none on this device")
        parts = [_said("kernels", facts["kernels"], reasons)]
        why = facts.get("no_graph_because", "" if facts["graph"] else "no GPU")
        parts.append(_said("graph", facts["graph"], why))
        dead = int((~self.program.alive).sum())
        return ", ".join(parts + [f"{dead} members diverged"] * bool(dead))


class Autocast(Running):
    """Plain torch mixed precision of the same pack: its linears are nn.Linear under autocast to BF16.

    Everything else (batches, clipping, optimizer, graph) is the pack's.
    """

    def __init__(self, members: Sequence[Trial], device: str) -> None:
        super().__init__(members, device)
        pack, kind, task = self.program.pack, self.program.pack.device.type, self.program.task
        plain = task.loss

        def loss(model: Model, batch: Batch) -> Tensor:
            with torch.autocast(kind, torch.bfloat16, cache_enabled=False):  # a graph cannot hold the cache
                return plain(model, batch)

        object.__setattr__(pack.task, "loss", loss)
        pack.template = task.model(self.program.data)
        pack.layers.clear()
        self._restore = lambda: object.__delattr__(task, "loss")

    def close(self) -> None:
        """Gives the task its own loss back."""
        self._restore()


def timed(members: Sequence[Trial], device: str, seconds: float) -> tuple[float, float | None, str]:
    """Model-steps/s of a pack, its peak memory in GiB, and a note."""
    tidy(device)
    start = time.perf_counter()
    running = Running(members, device)
    return _timed(running, len(members), device, seconds, start)


def _said(what: str, yes: bool, why: str) -> str:
    return f"{what} {'yes' if yes else 'no'}" + f" ({why})" * bool(why)
