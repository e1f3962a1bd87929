"""The numbers of one GEMM check, for all members at once: products [E, R, C] in, one value [E] per name out.

Q is the product that the training's own program computes, E the exact product of the same operands in FP32, and P the
product of the reference under the same recipe with other random bits: what the recipe explains. Sums are in FP64.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

BLOCK = 32
"""Neighbors along the contraction axis whose errors may go together: the largest block of common formats."""


def along(q: Tensor, exact: Tensor) -> Tensor:
    """The gain <Q, E> / <E, E> [E]: 1 where the quantized product keeps the size of the exact one.

    Source of the measure: pytorch/ao 4598, where a fault of a scale's layout attenuated a weight gradient to .88.
    """
    a, b = _flat(q), _flat(exact)
    return (a * b).sum(-1) / (b * b).sum(-1)


def error(q: Tensor, exact: Tensor) -> Tensor:
    """The relative error ||Q - E|| / ||E|| [E]."""
    a, b = _flat(q), _flat(exact)
    return (a - b).square().sum(-1).sqrt() / b.square().sum(-1).sqrt()


def effective(exact: Tensor) -> Tensor:
    """How many elements carry the exact product [E], (sum E^2)^2 / sum E^4: few, where outliers do."""
    square = _flat(exact).square()
    return square.sum(-1).square() / square.square().sum(-1)


def gain_spread(errors: tuple[Tensor, Tensor], operands: tuple[Tensor, Tensor], exact: Tensor) -> Tensor:
    """The standard deviation [E] of the gain that the rounding errors of the operands explain.

    ``operands`` L [E, M, K] and R [E, N, K], their ``errors``, and the product [E, M, N]. To first order the gain is
    off by the sum over elements of dL (E R) / <E, E>, and of R alike. Errors of a block, BLOCK neighbors along K, may
    go together, those of different blocks not: the variance is the sum of squares of the blocks' sums (a cluster-robust
    variance; Liang and Zeger, Biometrika 73, 1986). Few blocks that carry the product make it large.
    """
    e = exact.double()
    size = e.square().flatten(1).sum(-1)
    total = size.new_zeros(size.shape)
    for error, other, product in ((errors[0], operands[1], e), (errors[1], operands[0], e.mT)):
        terms = error.double() * (product @ other.double())
        padded = pad(terms, (0, -terms.shape[-1] % BLOCK))
        total = total + padded.unflatten(-1, (-1, BLOCK)).sum(-1).square().flatten(1).sum(-1)
    return total.sqrt() / size


def zeros(q: Tensor) -> Tensor:
    """The share of elements that are exactly zero [E]."""
    return (q == 0).flatten(1).double().mean(-1)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Whether two products have the same bits [E], 1 or 0."""
    return (a == b).flatten(1).all(-1).double()


def _flat(x: Tensor) -> Tensor:
    return x.double().flatten(1)
