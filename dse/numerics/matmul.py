"""a b^T with FP32 accumulation, so that a member of a pack gets the bits it would get alone."""

from __future__ import annotations

import torch
from torch import Tensor

from dse import kernels
from dse.kernels import alignment
from dse.numerics.quantizer import Quantized


def contract(a: Quantized, b: Quantized, bias: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """a [..., M, K], b [..., N, K] -> a b^T [..., M, N], the tensor scales in the epilogue: (sum) (alpha_a alpha_b).

    ``bias`` [..., N] is added in FP32 after the scales; ``dtype`` bfloat16 rounds the result once, to nearest even
    (None: FP32, or FP64 for double operands).

    On a GPU a kernel of our own takes stacked operands: a library chooses its algorithm, and with it the bits, by the
    number of members. Factors of operands are applied to its partial sums, and folded into the values elsewhere.
    """
    x, y = a.values, b.values
    stacked = x.dim() == y.dim() == 3 and len(x) == len(y)
    if stacked and x.dtype != torch.float64 and kernels.takes(x):
        factors = (a.factors, b.factors)
        return kernels.contract(x, y, a.alpha, b.alpha, bias, torch.float32 if dtype is None else dtype, factors)
    return finished(scaled(product(a.folded().values, b.folded().values), a, b), bias, dtype)


def finished(y: Tensor, bias: Tensor | None, dtype: torch.dtype | None) -> Tensor:
    """``y`` [..., M, N] plus ``bias`` [..., N], rounded once to ``dtype`` (None: not)."""
    y = y if bias is None else y + bias.unsqueeze(-2)
    return y if dtype is None else y.to(dtype)


def wide(x: Tensor) -> Tensor:
    """``x`` in FP32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def scaled(y: Tensor, a: Quantized, b: Quantized) -> Tensor:
    """The product ``y`` [..., M, N] of the values, times the tensor scales of both operands."""
    if a.alpha is not None and b.alpha is not None:
        return y * (a.alpha * b.alpha)
    alpha = b.alpha if a.alpha is None else a.alpha
    return y if alpha is None else y * alpha


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [..., M, K], b [..., N, K] -> [..., M, N] in FP32 (FP64 for double operands).

    On the CPU each member is multiplied by itself, as a plain linear would be (``dse.kernels.alignment``). Operands
    of 16 bits (exact ones: see ``dse.kernels``) are widened first.
    """
    a, b = (t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in (a, b))
    if a.device.type != "cpu":
        y: Tensor = a @ b.mT
        return y
    if a.dim() == b.dim() == 2:
        return alignment.product(a, b.mT)
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x, w = (t.expand(*lead, *t.shape[-2:]).flatten(0, -3) for t in (a, b))
    rows: Tensor = alignment.products(x, w.mT).unflatten(0, lead)
    return rows
