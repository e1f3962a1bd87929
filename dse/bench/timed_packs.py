"""Packs for the benchmarks: their trials, the train step that is timed, and notes on how it was computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dse.bench.eager import load
from dse.bench.models import BenchModel
from dse.bench.rate import pace, peak, tidy, wait
from dse.pack.cuda_graph import GraphedStep
from dse.pack.grouping import member_order, use_kernels
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.train.provenance import provenance
from dse.train.warmup import compile_step
from dse.trial import Trial

MIX = ("nvfp4", "mxfp4", "nvfp4_plain", "ue5m3", "mxfp4_rht_sr", "fusion_mxfp4_h32", "mxfp8", "bf16")
"""The recipes of a mixed pack, all covered by the kernels."""

SHOWN = 50
"""Steps until the first member's loss that a row states; compiled peers state theirs, of the same seed."""
_CAPTURED = 5
"""Steps until a graph is captured and replayed once: see ``dse.pack.cuda_graph``."""


class Timed(NamedTuple):
    """Model-steps per second, peak memory in GiB (None on the CPU), and how it was computed."""

    rate: float
    memory: float | None
    note: str


def trials(subject: BenchModel, width: int, recipes: Sequence[str] = MIX) -> list[Trial]:
    """``width`` trials that go through the recipes, then through the seeds."""
    count = len(recipes)
    return [Trial(subject.task, subject.training, RECIPES[recipes[i % count]], i // count) for i in range(width)]


class Running:
    """A pack that trains: ``step()`` is one real step of all members, from a CUDA graph where one can be captured."""

    def __init__(self, members: Sequence[Trial], device: str) -> None:
        kernels = use_kernels(device)
        lineup = [members[i] for i in member_order(members, kernels)]
        self.program = TrainStep(lineup, load(members[0].task, device), device, kernels)
        self.ahead = compile_step(self.program)
        self.stepper = GraphedStep(self.program.step, self.program.pack.device)
        self._steps, self._first = 0, True

    def step(self) -> None:
        """A training's end is its new start: the learning rates and the log have a row per step."""
        if self._steps == self.program.steps:
            self.program.pack.clock[:, 1].zero_()
            self._steps, self._first = 0, False
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
        parts += [f"{dead} members diverged"] * bool(dead)
        if self._first and self._steps >= SHOWN:
            parts.append(f"loss {float(self.program.log[SHOWN - 1, 0]):.3f} at step {SHOWN}")
        return ", ".join(parts)


class Autocast(Running):
    """Plain torch mixed precision of the same pack: nn.Linear under autocast to BF16 instead of the packed linears.

    Everything else (batches, clipping, optimizer, graph) is the pack's.
    """

    def __init__(self, members: Sequence[Trial], device: str) -> None:
        super().__init__(members, device)
        pack = self.program.pack
        model, kind = self.program.task.model(self.program.data), pack.device.type
        plain = model.forward

        def forward(*x: Tensor) -> Tensor:
            with torch.autocast(kind, torch.bfloat16, cache_enabled=False):  # a graph cannot hold the cache
                y: Tensor = plain(*x)
            return y.float()

        model.forward = forward
        pack.template = model
        pack.layers.clear()

    def note(self) -> str:
        return "torch.autocast under vmap, " + super().note()


def timed(kind: type[Running], members: Sequence[Trial], device: str, seconds: float) -> Timed:
    """A pack made and trained for ``seconds``."""
    tidy(device)
    start = time.perf_counter()
    running = kind(members, device)
    for _ in range(_CAPTURED if device.startswith("cuda") else 0):
        running.step()
    wait(device)
    ready = time.perf_counter() - start
    rate = pace(running.step, device, seconds) * len(members)
    compiled = f", {running.ahead.kernels} kernels compiled" * bool(running.ahead.kernels)
    return Timed(rate, peak(device), f"{running.note()}, ready in {ready:.1f} s{compiled}")


def _said(what: str, yes: bool, why: str) -> str:
    return f"{what} {'yes' if yes else 'no'}" + f" ({why})" * bool(why)
