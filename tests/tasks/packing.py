"""Packs of plain models for tests: parameters in one flat buffer, linears that multiply member by member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call, vmap

from dse.kernels.alignment import products
from dse.tasks import Task
from dse.tasks.base import Batch


class _Product(Function):
    """x [E, M, K], w [E, N, K] -> x wᵀ [E, M, N]: what a packed linear does, without quantizers."""

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return products(x, w.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (x, w), g = ctx.saved_tensors, grads[0]
        return _Product.forward(g, w.mT), _Product.forward(g.mT, x.mT)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int], x: Tensor, w: Tensor) -> tuple[Tensor, int]:
        x = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        y = _Product.apply(x.flatten(1, -2), w.movedim(in_dims[1], 0))
        return y.unflatten(1, x.shape[1:-1]), 0


class MemberLinear(nn.Module):
    """Takes the place of an `nn.Linear` in a model that runs under vmap."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, self.weight)
        return y if self.bias is None else y + self.bias


class Pack:
    """`models` of one task, stacked; `offset` floats lie before them, so that their place in memory can be moved."""

    def __init__(self, task: Task[Any], models: Sequence[nn.Module], offset: int = 0) -> None:
        self.task, self.base = task, models[0]
        self.names = [name for name, _ in self.base.named_parameters()]
        rows = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models]
        flat = torch.cat([rows[0].new_zeros(offset), *rows])[offset:].view(len(models), -1)
        sizes = [p.numel() for p in self.base.parameters()]
        shapes = [p.shape for p in self.base.parameters()]
        parts = zip(flat.split(sizes, 1), shapes, strict=True)
        self.views = [part.view(-1, *shape).requires_grad_() for part, shape in parts]
        buffers = [dict(model.named_buffers()) for model in models]
        self.buffers = {name: torch.stack([b[name] for b in buffers]) for name in buffers[0]}

    def step(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Losses [E] and gradients [E, ...] of stacked batches."""
        losses = vmap(self._loss)(dict(zip(self.names, self.views, strict=True)), self.buffers, *batch)
        return losses.detach(), list(torch.autograd.grad(losses.sum(), self.views))

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Metrics [E] of one batch that all members share."""
        views = dict(zip(self.names, self.views, strict=True))
        shared = (None,) * len(batch)
        with torch.no_grad():
            return vmap(self._measure, in_dims=(0, 0, *shared))(views, self.buffers, *batch)

    def _loss(self, p: dict[str, Tensor], b: dict[str, Tensor], *batch: Tensor) -> Tensor:
        return self.task.loss(lambda *inputs: functional_call(self.base, (p, b), inputs), batch)

    def _measure(self, p: dict[str, Tensor], b: dict[str, Tensor], *batch: Tensor) -> dict[str, Tensor]:
        return self.task.measure(lambda *inputs: functional_call(self.base, (p, b), inputs), batch)


def packable(model: nn.Module) -> nn.Module:
    """The model with its linears replaced, `awake`."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, MemberLinear(module))
    return awake(model)


def awake(model: nn.Module) -> nn.Module:
    """The model with its parameters moved off 0, so that every gradient flows."""
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return model
