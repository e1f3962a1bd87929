"""Linear and convolution modules of a packed model: under ``torch.func.vmap`` they compute all members at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dse import kernels
from dse.errors import UserError
from dse.nn.select import Plain
from dse.nn.unfold import Window, images, patches
from dse.numerics.matmul import wide
from dse.pack.layer import PackLayer
from dse.pack.segments import Held, LayerOperands, Segment
from dse.pack.side_by_side import side_by_side


class _Stacked(torch.autograd.Function):
    """Y = X W^T + b of every member: X [E, M, K], W [E, N, K], b [E, N] or None -> [E, M, N] in X's dtype.

    Forward fprop, backward dgrad and wgrad. The gradients of W and b are float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, layer: PackLayer) -> Tensor:
        needs = (x.requires_grad, w.requires_grad)
        call, operands = layer.next_call(), LayerOperands(x, w, b, layer.shared)

        def computed(segment: Segment) -> tuple[Tensor, Held]:
            return segment.forward(operands.of(segment.members), layer.context(segment, call), needs)

        found = side_by_side([partial(computed, segment) for segment in layer.segments], x.device)
        outputs, held = [y for y, _ in found], [kept for _, kept in found]
        ctx.layer, ctx.segments, ctx.call = layer, layer.segments, call
        ctx.held = [h._replace(tensors=()) for h in held]
        ctx.counts = [len(h.tensors) for h in held]
        ctx.seen = (layer.tap, x.detach(), w.detach()) if layer.tap else None
        ctx.save_for_backward(*(t for h in held for t in h.tensors))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (g,), saved, needs = grads, list(ctx.saved_tensors), tuple(ctx.needs_input_grad[:2])
        if ctx.seen is not None:
            tap, x, w = ctx.seen
            tap(wide(x), w, wide(g.detach()), needs)
        tasks = []
        for segment, count, bare in zip(ctx.segments, ctx.counts, ctx.held, strict=True):
            held, saved = bare._replace(tensors=tuple(saved[:count])), saved[count:]
            context = ctx.layer.context(segment, ctx.call)
            tasks.append(partial(segment.backward, held, g[segment.members], context, needs))
        found = side_by_side(tasks, g.device)
        dx, dw = [gx for gx, _ in found], [gw for _, gw in found]
        return _joined(dx), _joined(dw), _column_sums(g) if ctx.needs_input_grad[2] else None, None


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    present = [p for p in parts if p is not None]
    if not present:
        return None
    return present[0] if len(present) == 1 else torch.cat(present)


def _column_sums(g: Tensor) -> Tensor:
    """The gradients of biases: FP32 sums of G [E, M, N] over the rows, [E, N]."""
    return wide(kernels.column_sums(g) if kernels.takes(g) else wide(g).sum(1))


class _StackedLinear(torch.autograd.Function):
    """Y = X W^T + b under ``torch.func.vmap``, which hands over the stack; ``b`` may be None."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None, layer: PackLayer) -> Tensor:
        raise RuntimeError("a packed layer runs under torch.func.vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing: the stacked function below the vmap level keeps what the backward pass needs."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, w: Tensor, b: Tensor | None, layer: PackLayer
    ) -> tuple[Tensor, int]:
        def stack(t: Tensor, dim: int | None) -> Tensor:
            return t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)

        bias = None if b is None else stack(b, in_dims[2])
        y: Tensor = _Stacked.apply(stack(x, in_dims[0]), stack(w, in_dims[1]), bias, layer)  # type: ignore[no-untyped-call]
        return y, 0


class PackedLinear(nn.Module):
    """Module that replaces an ``nn.Linear`` of the template model; ``layer`` is set by the pack."""

    layer: PackLayer
    bias: Tensor | None

    def __init__(self, linear: Plain) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K] -> [..., N]; leading axes are tokens."""
        rows = self.layer.entering(x).reshape(-1, x.shape[-1])
        y: Tensor = _StackedLinear.apply(rows, self.weight, self.bias, self.layer)  # type: ignore[no-untyped-call]
        return y.reshape(*x.shape[:-1], self.weight.shape[0])


class PackedConv2d(PackedLinear):
    """Module that replaces an ``nn.Conv2d``: a linear over the unfolded patches of all members."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self._window = Window.of(conv)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, O, H', W']."""
        rows = patches(self.layer.entering(x), self._window)
        w = self.weight.flatten(1)
        y: Tensor = _StackedLinear.apply(rows.flatten(0, 1), w, self.bias, self.layer)  # type: ignore[no-untyped-call]
        return images(y.unflatten(0, rows.shape[:2]), self._window.places(*x.shape[-2:]))


def packed(linear: Plain) -> PackedLinear:
    """The packed module for a plain one. Raises UserError for hooks, and for a weight that is no parameter."""
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    if "weight" not in linear._parameters or any(getattr(linear, name) for name in hooks):
        raise UserError(
            f"a task's model has {linear} with hooks or with a weight computed from others (weight_norm, prune, "
            "parametrize), which packs leave out: put them into modules of their own, or exempt the layer"
        )
    return PackedConv2d(linear) if isinstance(linear, nn.Conv2d) else PackedLinear(linear)
