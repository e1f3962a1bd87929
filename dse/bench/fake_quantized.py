"""NVFP4 fake quantization as a user of torch alone would write it: every operation is one that torch.compile fuses.

E2M1 in blocks of 16 with E4M3 scales and a tensor scale; weights in 16 x 16 tiles, stochastic gradients, a Hadamard 16
with fixed signs along the tokens in the weight gradient (arXiv 2509.25149), all three products in BF16. It is a
yardstick of speed and shares no code with this project's numerics: operands are rounded to BF16 with their tensor
scale, and the random bits are torch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

BLOCK = 16
_LARGEST, _LARGEST_SCALE = 6.0, 448.0
_SIGNS = (1, 1, -1, 1, -1, 1, 1, -1, -1, -1, 1, -1, 1, 1, 1, -1)
"""Of the rotation; any fixed pattern does."""


def hadamard() -> Tensor:
    """The rotation [16, 16] in BF16, in which its entries of 1/4 are exact: a Hadamard matrix times the signs."""
    h = torch.ones(1, 1)
    while len(h) < BLOCK:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h.mul(torch.tensor(_SIGNS)).div(BLOCK**0.5).bfloat16()


def fake_nvfp4(x: Tensor, peak: tuple[int, ...], noise: Tensor | None = None) -> Tensor:
    """``x``, any view whose axes ``peak`` are those of one block, quantized and dequantized, in BF16.

    ``noise``: uniform numbers in [0, 1) of the shape of ``x``, for stochastic rounding.
    """
    x = x.float()
    size = x.abs()
    most = size.amax()
    encode = torch.where(most > 0, _LARGEST_SCALE * _LARGEST / most, 1.0)
    wanted = size.amax(peak, keepdim=True) * (encode / _LARGEST)
    scale = wanted.clamp(max=_LARGEST_SCALE).to(torch.float8_e4m3fn).float()
    u = (size * torch.where(scale > 0, encode / scale, 0.0)).clamp(max=_LARGEST)
    step = torch.where(u < 2, 0.5, torch.where(u < 4, 1.0, 2.0))
    code = (u / step).round() if noise is None else (u / step + noise).floor()
    return torch.copysign(code * step * (scale / encode), x).bfloat16()


def rows(x: Tensor, stochastic: bool = False) -> Tensor:
    """``x`` [R, C] in blocks along its last axis."""
    view = x.unflatten(-1, (-1, BLOCK))
    return fake_nvfp4(view, (-1,), torch.rand_like(view, dtype=torch.float32) if stochastic else None).flatten(-2)


def columns(x: Tensor, h: Tensor, stochastic: bool = False) -> Tensor:
    """``x`` [R, C] in blocks along its first axis, each rotated by ``h`` [16, 16] first."""
    view = h @ x.unflatten(0, (-1, BLOCK))
    return fake_nvfp4(view, (-2,), torch.rand_like(view, dtype=torch.float32) if stochastic else None).flatten(0, 1)


def tiles(w: Tensor) -> Tensor:
    """``w`` [R, C] in tiles of 16 x 16."""
    view = w.unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))
    return fake_nvfp4(view, (1, 3)).flatten(2).flatten(0, 1)


class Nvfp4Product(Function):
    """x [..., K], w [N, K], h [16, 16] -> x wᵀ [..., N] in BF16; dx in BF16, dw in FP32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, h: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        quantized = tiles(w)
        ctx.save_for_backward(flat, quantized, h)
        y: Tensor = (rows(flat) @ quantized.mT).unflatten(0, x.shape[:-1])
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, w, h = ctx.saved_tensors
        g = grads[0].flatten(0, -2).bfloat16()
        dx = rows(g, True) @ w
        dw = columns(g, h, True).mT @ columns(x, h)
        return dx.unflatten(0, grads[0].shape[:-1]), dw.float(), None


class Nvfp4Linear(nn.Module):
    """A linear layer whose three products are fake-quantized; the weight stays FP32.

    Takes axes that are multiples of 16, of the input and the number of tokens too.
    """

    h: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.register_buffer("h", hadamard().to(linear.weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Nvfp4Product.apply(x.bfloat16(), self.weight, self.h)  # type: ignore[no-untyped-call]
        bias: Tensor | None = self.bias
        return y if bias is None else y + bias.bfloat16()
