"""The numbers of one GEMM check, for all members at once: products [E, R, C] in, one value [E] per name out.

Q is the product that the training's own program computes, E the exact product of the same operands in FP32, and P the
product of the reference under the same recipe with other random bits: what the recipe explains. Sums are in FP64.
"""

from __future__ import annotations

from torch import Tensor


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


def zeros(q: Tensor) -> Tensor:
    """The share of elements that are exactly zero [E]."""
    return (q == 0).flatten(1).double().mean(-1)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Whether two products have the same bits [E], 1 or 0."""
    return (a == b).flatten(1).all(-1).double()


def _flat(x: Tensor) -> Tensor:
    return x.double().flatten(1)
