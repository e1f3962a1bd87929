"""Which operands the Triton kernels compute, and the reason where they do not."""

from __future__ import annotations

from typing import NamedTuple

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.quantizer import BFloat16, Identity, Quantizer
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.rotations import Hadamard, Rotation
from dse.numerics.techniques.rounding import (
    AwayFromZero,
    MantissaEven,
    NearestAway,
    NearestEven,
    Rounding,
    Stochastic,
    TowardZero,
)
from dse.numerics.techniques.statistics import AbsMax
from dse.numerics.techniques.tensor_scales import Current, Delayed

LARGEST_BLOCK = LARGEST_ROTATION = 256
LARGEST_TILE = 32
_ROUNDINGS = (NearestEven, NearestAway, MantissaEven, TowardZero, AwayFromZero, Stochastic)


class Use(NamedTuple):
    """One operand of one GEMM of one member."""

    quantizer: Quantizer
    rotation: Rotation | None


def uncovered(use: Use) -> str:
    """'' when a kernel computes this operand, else the reason in words."""
    quantizer, rotation = use
    if rotation is not None and (type(rotation) is not Hadamard or rotation.size > LARGEST_ROTATION):
        return f"rotation {rotation}"
    if type(quantizer) in (Identity, BFloat16):
        return ""
    if type(quantizer) is not BlockQuantizer:
        return f"quantizer {type(quantizer).__name__}"
    return next(filter(None, _reasons(quantizer)), "")


def structure(use: Use) -> str:
    """The kernel that computes an operand, by name: 'core', the table-driven one; '' where none does."""
    return "" if uncovered(use) else "core"


def _reasons(q: BlockQuantizer) -> tuple[str, ...]:
    return (
        "" if _power(q.block, 16, LARGEST_BLOCK) else f"blocks of {q.block or 'a whole row'}",
        "" if _power(q.tile, 1, LARGEST_TILE) else f"tiles of {q.tile or 'all'} rows",
        "" if type(q.statistic) is AbsMax else f"statistic {type(q.statistic).__name__}",
        "" if q.outliers is None else f"outliers {type(q.outliers).__name__}",
        "" if q.choice is None else f"choice {type(q.choice).__name__}",
        "" if type(q.convention) in (Decode, Encode) else f"convention {type(q.convention).__name__}",
        "" if q.tensor_scale is None or type(q.tensor_scale) in (Current, Delayed) else
        f"tensor scale {type(q.tensor_scale).__name__}",
        _rounding(q.rounding, "rounding"),
        _rounding(q.scale_rounding, "scale rounding"),
        _element(q.element),
        "" if q.scale.emin >= -127 and q.scale.man <= 23 else f"scale format {q.scale.name}",
    )  # fmt: skip


def _power(n: int, low: int, high: int) -> bool:
    return low <= n <= high and n & n - 1 == 0


def _rounding(rounding: Rounding, what: str) -> str:
    return "" if type(rounding) in _ROUNDINGS else f"{what} {type(rounding).__name__}"


def _element(fmt: Format) -> str:
    """Nine fractional bits fit above the lattice, and the smallest step is a normal float."""
    fits = fmt.signed and fmt.subnormals and fmt.man <= 8 and fmt.emin - fmt.man >= -100 and fmt.emax <= 100
    return "" if fits else f"element format {fmt.name}"


def exact_in_bf16(use: Use) -> bool:
    """Whether every decoded value (without alpha) is a BF16 number, by the formats alone.

    A product of significands of p and q bits has p + q bits at most, and BF16 holds 8. Below 2^-126, where BF16 keeps
    fewer, a block's largest value is too small to matter (2^-110 for E5M2 elements): that range does not count.
    """
    q = use.quantizer
    if isinstance(q, BFloat16):
        return True
    if not isinstance(q, BlockQuantizer) or not isinstance(q.convention, Decode) or q.outliers is not None:
        return False
    if q.choice is not None or (q.tensor_scale is not None and not q.tensor_scale.tensor_wide):
        return False
    element, scale = _significant(q.element), _significant(q.scale)
    return (element + scale if min(element, scale) > 1 else max(element, scale)) <= 8


def _significant(fmt: Format) -> int:
    """Bits of the longest significand; an integer grid has no implicit one."""
    return fmt.man + 1 if fmt.exp else fmt.man
