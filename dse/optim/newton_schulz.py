"""The nearest orthogonal matrix, almost, by Newton-Schulz iterations of quantized products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of Keller Jordan's quintic: its slope at 0 is as large as possible, and singular values end in .7 to 1.2."""
_NO_RANDOM_BITS = Key(torch.zeros(2, dtype=torch.int64))


def orthogonalized(x: Tensor, norms: Tensor, gemm: Gemm, steps: int = 5, margin: float = 1.0) -> Tensor:
    """U V^T of x = U S V^T, roughly: singular values between .7 and 1.2; x [B, N, K] float32.

    ``norms`` [B]: Frobenius norms. X <- x / (norm + 1e-7), wide (transposed where N > K); then ``steps`` times
    A = X X^T, B = b A + c A A^T, X <- a X + B X, before each but the first X <- X / margin. The operands of the three
    products are quantized by ``gemm``, sums and what lies between products are FP32. (Published code keeps those in
    BF16.) A and B are symmetric, so that every product is a b^T with blocks along its contraction axis.
    Source: kellerjordan.github.io/posts/muon.

    The quintic grows above 1.27, and what it makes of values below is at most 1.2. With NVFP4 operands rounding lifts
    singular values beyond 1.27, and five iterations diverge, to 1e14 for a normal matrix [24, 64]. ``margin`` divides
    them back: with 1.5 and eight iterations they end in .5 to 1.5 (normal, badly scaled and nearly low-rank matrices of
    [24, 64] to [128, 352]), at cosines of .92 to .98 to the result of BF16. With 1.15 they still diverge, with 1.3 the
    cosines are .84 to .90; Hadamard rotations and four-over-six change little. The margin is this project's.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x) / (norms + 1e-7)[:, None, None]
    for step in range(steps):
        if step and margin != 1:
            x = x / margin
        square = _product(gemm, x, x)
        polynomial = (square * b).add_(_product(gemm, square, square) * c)
        x = (x * a).add_(_product(gemm, polynomial, x.mT.contiguous()))
    return x.mT if tall else x


def _product(gemm: Gemm, x: Tensor, y: Tensor) -> Tensor:
    """x y^T of stacks [B, M, K] and [B, N, K]; operands that are exact in BF16 go to a GPU's product as BF16."""
    narrow: Callable[[Quantized], Quantized] = _narrow if x.is_cuda else lambda q: q
    lhs, rhs = gemm.operands(x.contiguous(), y, _NO_RANDOM_BITS)
    return gemm.contract(narrow(lhs), narrow(rhs))


def _narrow(q: Quantized) -> Quantized:
    return q._replace(values=q.values.bfloat16())
