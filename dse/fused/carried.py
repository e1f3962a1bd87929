"""How operands reach their product: the shortest type that holds their values, and the scale that stays out of them.

A decoded value is element x scale. BF16 holds 8 significant bits, FP16 11 of a short range; a scale that is too long,
as those in FP32 and inverses are, stays out of the values where it is one for a row or for many elements of the
contraction axis: then the product applies it to partial sums (``dse.kernels.factors``).
"""

from __future__ import annotations

from math import frexp, gcd
from typing import NamedTuple

from dse.fused.checked import unchecked
from dse.fused.device_code import candidates
from dse.fused.support import Use, in_groups, structure, uncovered_by_core
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.quantizer import BFloat16
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.tensor_scales import Outer
from dse.numerics.value_formats import ValueFormat

_BF16, _FP32 = 8, 24
"""Significant bits."""
SMALLEST_GROUP = 16
"""Elements of the contraction axis under a scale that is kept out, at least: a product takes as many in a step. On an
H200 a product of two such operands takes .51 to .97 of the time of one in FP32 in groups of 16, .28 to .66 of 32."""
_LONG = 64
"""Elements of blocks that the general kernels take whatever else an operand needs."""


class KeptScale(NamedTuple):
    """A scale that stays out of the values: 'outer' scales, or those of 'block's.

    ``group``: elements of the contraction axis under one, 0: all of a row.
    """

    scale: str
    group: int


class Carried(NamedTuple):
    """An operand's values in 'bf16', 'fp16' or 'float32', and what is kept out of them, or None."""

    dtype: str
    kept: KeptScale | None = None


def carried(lhs: Use, rhs: Use, keeps: tuple[bool, bool]) -> tuple[Carried, Carried]:
    """How both operands of a GEMM reach it; ``keeps``: whether a scale of each may stay out of its values."""
    both = (lhs, rhs)
    if all(map(exact_in_bf16, both)):
        return Carried("bf16"), Carried("bf16")
    if all(map(exact_in_fp16, both)):
        return Carried("fp16"), Carried("fp16")
    if unchecked("factors"):
        return Carried("float32"), Carried("float32")
    one, two = (_short(use, may) for use, may in zip(both, keeps, strict=True))
    groups = [own.kept.group if own.kept else 0 for own in (one, two)]
    if 0 < gcd(*groups) < SMALLEST_GROUP:
        one, two = (_short(use, False) for use in both)
    return one, two


def products(pair: tuple[Carried, Carried]) -> int:
    """Products of 16-bit numbers that a GEMM takes on GPUs with tensor descriptors: FP32 numbers are sums of three."""
    return {0: 1, 1: 3, 2: 6}[sum(own.dtype == "float32" for own in pair)]


def _short(use: Use, keeps: bool) -> Carried:
    if exact_in_bf16(use):
        return Carried("bf16")
    kept = keepable(use) if keeps else None
    return Carried("float32") if kept is None else Carried("bf16", kept)


def keepable(use: Use) -> KeptScale | None:
    """The scale that kernels keep out of an operand, so that the rest is exact in BF16; None where there is none."""
    q = use.quantizer
    if not isinstance(q, BlockQuantizer) or q.outliers is not None or not structure(use):
        return None
    kept = KeptScale("block", q.block)
    if isinstance(q.tensor_scale, Outer):
        kept = KeptScale("outer", q.block * q.tensor_scale.blocks)
    long = q.block == 0 or q.block >= _LONG  # what the general kernels take block by block
    fits = kept.group == 0 or (kept.group >= SMALLEST_GROUP and kept.group % 16 == 0)
    lists = any(isinstance(how.element, ValueFormat) for how in candidates(q))  # theirs go on as FP32, as ever
    grouped = (in_groups(use) and not lists) or not uncovered_by_core(use)
    if not fits or not ((long and not q.micro_exponents) or grouped):
        return None
    return kept if significant_bits(use, kept) <= _BF16 else None


def significant_bits(use: Use, kept: KeptScale | None = None) -> int:
    """Bits of the longest significand of decoded values without alpha, and without what is kept, by the formats alone.

    A product of significands of p and q bits has p + q bits at most, a sum or a quotient any number: FP32's 24.
    """
    q = use.quantizer
    if isinstance(q, BFloat16):
        return _BF16
    if not isinstance(q, BlockQuantizer) or q.outliers is not None:
        return _FP32
    elements = max(_significant(how.element) for how in candidates(q))
    if any(how.gain != 1 or how.multiple != 1 for how in candidates(q)):
        return _FP32
    if kept is not None and kept.scale == "block":
        plain = q.choice is None and q.correction is None and not q.micro_exponents
        return elements if plain and not isinstance(q.tensor_scale, Outer) else _FP32
    powers = q.scale.exp > 0 and q.scale.man == 0  # of two: their inverses are, too
    if not (isinstance(q.convention, Decode) or (isinstance(q.convention, Encode) and powers)):
        return _FP32
    if q.tensor_scale is not None and not q.tensor_scale.tensor_wide and kept is None:
        return _FP32
    scale = _significant(q.scale)
    return min(_FP32, elements + scale if min(elements, scale) > 1 else max(elements, scale))


def exact_in_bf16(use: Use) -> bool:
    """Whether every decoded value (without alpha) is a BF16 number.

    Below 2^-126, where BF16 keeps fewer bits, a block's largest value is too small to matter (2^-110 for E5M2
    elements): that range does not count.
    """
    return significant_bits(use) <= _BF16


def exact_in_fp16(use: Use) -> bool:
    """Whether every decoded value (without alpha) is an FP16 number: 11 bits, multiples of 2^-24 up to 65504."""
    q = use.quantizer
    if not isinstance(q, BlockQuantizer) or q.outliers is not None or type(q.convention) is not Decode:
        return False
    if q.scale.exp in (0, 8) or (q.tensor_scale is not None and not q.tensor_scale.tensor_wide):
        return False
    hows = [how for how in candidates(q) if how.multiple % 1 == 0]
    if len(hows) < len(candidates(q)) or any(isinstance(how.element, ValueFormat) for how in hows):
        return False
    bits = [_significant(how.element) + _significant(q.scale) + int(how.multiple).bit_length() for how in hows]
    largest = max(how.element.max * how.multiple for how in hows) * q.scale.max * 2 ** len(q.micro_exponents)
    least = min(2.0 ** (how.element.emin - how.element.man) for how in hows) * q.scale.smallest
    return max(bits) <= 11 and largest <= 65504 and least >= 2.0**-24


def _significant(fmt: Format) -> int:
    """Bits of the longest significand; an integer grid has no implicit one."""
    if isinstance(fmt, ValueFormat):
        whole = [abs(int(frexp(v)[0] * 2**24)) for v in fmt.values if v]
        return max(24 - ((n & -n).bit_length() - 1) for n in whole)
    return fmt.man + 1 if fmt.exp else fmt.man


__all__ = [
    "SMALLEST_GROUP",
    "Carried",
    "KeptScale",
    "carried",
    "exact_in_bf16",
    "exact_in_fp16",
    "keepable",
    "products",
    "significant_bits",
]
