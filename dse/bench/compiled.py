"""One trial as a user of plain torch trains it at its fastest: the step through torch.compile, in one CUDA graph.

BF16 products and activations, FP32 master weights, flash attention, clipping and torch's fused AdamW; nothing in a step
waits for the host. ``fp4``: the linears that a recipe would quantize are fake-quantized to NVFP4 in plain torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dse.bench.composed import composed
from dse.bench.eager import load
from dse.bench.fake_quantized import BLOCK, Nvfp4Linear
from dse.bench.models import BenchModel
from dse.nn.select import chosen
from dse.pack.cuda_graph import GraphedStep
from dse.recipes import RECIPES
from dse.tasks.base import single

_BATCHES = 256
"""Drawn before: the first steps see the batches that a pack's member of seed 0 sees."""
_MOST = 1 << 30
"""Bytes of them, at most."""


def compiler(quick: bool) -> str:
    """Of torch.compile: for a smoke test nothing becomes machine code."""
    return "aot_eager" if quick else "inductor"


class CompiledTrial:
    """One trial of ``subject`` on ``device``; ``step()`` is one real step, from a CUDA graph where there is a GPU.

    ``backend``: torch.compile's; a graph break is an error. ``loss`` []: of the last step.
    """

    SHOWN = 50
    """Steps until the loss that a row states."""

    def __init__(self, subject: BenchModel, device: str, fp4: bool, backend: str = "inductor") -> None:
        data, training, task = load(subject.task, device), subject.training, subject.task
        torch.manual_seed(0)
        model = task.model(data)
        quantized = set(chosen(model, RECIPES["nvfp4"], exempt=task.exempt())) if fp4 else set()
        left = {name for name, module in model.named_modules() if module not in quantized}
        model = composed(model)
        if fp4:
            _quantize(model, left)
        _narrow(model)
        self.model, self._kind = model.to(device), torch.device(device).type
        self._batches = _drawn(task, data, training.batch)
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._task, self._clip = task, training.clip
        cuda = self._kind == "cuda"
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(),
            training.lr,
            training.betas,
            weight_decay=training.weight_decay,
            fused=True,
            capturable=cuda,
        )
        torch._dynamo.reset()  # what earlier trials have compiled counts towards a limit
        self._objective = torch.compile(self._loss, fullgraph=True, dynamic=False, backend=backend)
        self.loss = torch.zeros((), device=device)
        self._graphed = GraphedStep(self._step, torch.device(device))

    def step(self) -> None:
        """Forward, backward, clipping, AdamW. Raises RuntimeError where a GPU does not capture the step."""
        self._graphed()
        if self._graphed.refused:
            raise RuntimeError(f"no CUDA graph: {self._graphed.refused}")

    def losses(self, steps: int) -> str:
        """Trains for so many steps; the last one's loss in words. The first calls compile and capture."""
        for _ in range(steps):
            self.step()
        return f"loss {float(self.loss):.3f} at step {steps}"

    def _step(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._objective(*self._batches, self._count)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self._clip, foreach=True)
        self._optimizer.step()
        self.loss.copy_(loss.detach())
        self._count.add_(1)

    def _loss(self, *operands: Tensor) -> Tensor:
        *batches, count = operands
        at = (count % len(batches[0])).unsqueeze(0)
        batch = tuple(part.index_select(0, at).squeeze(0) for part in batches)
        with torch.autocast(self._kind, torch.bfloat16, cache_enabled=False):
            found: Tensor = self._task.loss(self.model, batch)
        return found


def _quantize(model: nn.Module, left: set[str]) -> None:
    """Fake-quantizes the linears but those in ``left``, and those whose axes are no multiple of a block."""
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or f"{path}.{name}".removeprefix(".") in left:
                continue
            if child.in_features % BLOCK == 0 == child.out_features % BLOCK:
                setattr(parent, name, Nvfp4Linear(child))


def _narrow(model: nn.Module) -> None:
    """The residual stream in BF16: what embeds tokens or pixels hands it out so, and all that follows keeps it."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda module, x, y: y.bfloat16())


def _drawn(task: Any, data: Any, batch: int) -> tuple[Tensor, ...]:
    """The batches of the first steps, each part stacked [steps, ...]."""
    first = single(task, data, 0, 0, batch)
    steps = max(1, min(_BATCHES, _MOST // sum(part.numel() * part.element_size() for part in first)))
    every = [first, *(single(task, data, 0, step, batch) for step in range(1, steps))]
    return tuple(torch.stack(parts) for parts in zip(*every, strict=True))
