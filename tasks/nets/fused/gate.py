"""silu(a) b, the middle of SwiGLU (arXiv 2002.05202), in one pass forward and one backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dse.tasks.nets.members import lead

_BLOCK = 1024


def gate(a: Tensor, b: Tensor) -> Tensor:
    """a σ(a) b of two tensors of one shape and type."""
    y: Tensor = _Gate.apply(a, b)  # type: ignore[no-untyped-call]
    return y


class _Gate(Function):
    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        from dse.tasks.nets.fused.device import gate as device

        a, b = a.contiguous(), b.contiguous()
        y = torch.empty_like(a)
        if a.numel():
            device.gate_kernel[(-(-a.numel() // _BLOCK),)](a, b, y, a.numel(), BLOCK=_BLOCK, num_warps=4)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        from dse.tasks.nets.fused.device import gate as device

        g, a, b = (x.contiguous() for x in (*grads, *ctx.saved_tensors))
        da, db = torch.empty_like(a), torch.empty_like(b)
        if a.numel():
            device.gate_backward_kernel[(-(-a.numel() // _BLOCK),)](
                g, a, b, da, db, a.numel(), BLOCK=_BLOCK, num_warps=4
            )
        return da, db

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], a: Tensor, b: Tensor) -> Any:
        return _Gate.apply(*lead(info, in_dims, a, b)), 0  # type: ignore[no-untyped-call]
