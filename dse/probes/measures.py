"""The numbers that probes report, each for all members at once: operands [E, R, K] in, one value [E] per name out.

Sums are in FP64, and reported with six digits, so that a member's numbers are those it gets alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dse.probes.anatomy import Anatomy

DIGITS = 6
_ZERO, _NOT_FINITE, _ORIGIN, _BINS = 0, 1, 170, 340
"""Bins of the scale histogram: zero, infinity and NaN, then the exponents from -168 on."""

MemberValues = dict[str, Tensor]


def operand(x: Tensor, anatomy: Anatomy) -> MemberValues:
    """What quantization does to an operand X.

    - ``error``: ||f(X) - X|| / ||X||; ``qsnr``: the same in dB, -20 log10(error);
    - ``flushed``: share of elements that are not zero but become zero;
    - ``saturated``: share of elements that are cast from beyond the largest element.
    """
    f = anatomy.quantized.dequantize()
    error = _norm(f.double() - x.double()) / _norm(x)
    values = {"error": error, "qsnr": -20 * error.log10(), "flushed": _share((f == 0) & (x != 0))}
    return values if anatomy.saturated is None else values | {"saturated": _share(anatomy.saturated)}


def gradient(q: Tensor, exact: Tensor) -> MemberValues:
    """How a gradient Q, from quantized operands, compares with the exact product E of the same operands.

    - ``cosine``: <Q, E> / (||Q|| ||E||); ``error``: ||Q - E|| / ||E||;
    - ``bias``: mean(Q - E) / mean |E|; ``shrink``: <Q, E> / <E, E> - 1, the part of the error that is along E.
    """
    a, b = _flat(q), _flat(exact)
    inner, own = (a * b).sum(-1), (b * b).sum(-1)
    return {
        "cosine": inner / (a * a).sum(-1).sqrt() / own.sqrt(),
        "error": _norm(a - b) / own.sqrt(),
        "bias": (a - b).mean(-1) / b.abs().mean(-1),
        "shrink": inner / own - 1,
    }


def changed(now: Tensor, before: Tensor) -> Tensor:
    """Share of a member's elements, [N, K], that are not what they were."""
    return (now != before).double().mean()


def histogram(scales: Tensor) -> list[dict[str, int]]:
    """Per member: how many blocks have a scale of which power of two, floor(log2 s), as text; 'zero', 'not finite'."""
    exponent = torch.frexp(scales)[1].long() - 1 + _ORIGIN
    index = torch.where(scales.isfinite(), exponent.clamp(_NOT_FINITE + 1, _BINS - 1), _NOT_FINITE)
    index = torch.where(scales == 0, _ZERO, index).flatten(1)
    counts = torch.zeros(len(scales), _BINS, dtype=torch.int64, device=scales.device)
    counts.scatter_add_(1, index, torch.ones_like(index))
    names = {_ZERO: "zero", _NOT_FINITE: "not finite"}
    return [{names.get(i, str(i - _ORIGIN)): count for i, count in enumerate(row) if count} for row in counts.tolist()]


def plain(value: float) -> float | None:
    """A number for the record: six digits, None for what is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _flat(x: Tensor) -> Tensor:
    return x.double().flatten(1)


def _norm(x: Tensor) -> Tensor:
    return _flat(x).square().sum(-1).sqrt()


def _share(mask: Tensor) -> Tensor:
    return mask.flatten(1).sum(-1).double() / mask[0].numel()
