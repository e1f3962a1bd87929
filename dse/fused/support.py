"""Which operands the Triton kernels compute, and the reason where they do not."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import NamedTuple

from dse.fused.checked import unchecked
from dse.fused.device_code import CORRECTIONS, ERRORS, LEVELS, STATISTICS, candidates, correction_code, statistic_code
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.quantizer import BFloat16, Identity, Quantizer
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.outliers import Asymmetric, Clamp
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
from dse.numerics.techniques.statistics import AbsMax, HardSoft, Quest
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer
from dse.numerics.value_formats import ValueFormat

LARGEST_BLOCK = 256
LARGEST_TILE = 32
LONGEST_LIST = 16
"""Values of a half of an element format that the table-driven kernel goes through."""
LARGEST_WHOLE = 8192
"""Elements of a block that one program holds, with all the blocks under its outer scale."""
_IN_GROUPS = (AbsMax, HardSoft, Quest)
"""Statistics to which zeros beyond an operand add nothing."""
_ROUNDINGS = (NearestEven, NearestAway, MantissaEven, TowardZero, AwayFromZero, Stochastic)


class Use(NamedTuple):
    """One operand of one GEMM of one member."""

    quantizer: Quantizer
    rotation: Rotation | None


CORE = "core"


def structure(use: Use) -> str:
    """The program that computes an operand: 'core', or what the general kernels of blocks are compiled for; '': none.

    Members of one launch agree in it; what else they differ in are numbers in a table.
    """
    q = use.quantizer
    if not uncovered_by_core(use):
        return CORE
    if uncovered(use) or not isinstance(q, BlockQuantizer):
        return ""
    if q.outliers is not None:
        turn = f"rotation {use.rotation.size}, " if use.rotation else ""
        return f"{turn}outliers {q.outliers}, {structure(inner(use))}"
    parts = {
        "rotation": use.rotation and getattr(use.rotation, "size", use.rotation),
        "tile": q.tile,
        "block": q.block,
        "statistic": statistic_code(q).value.removesuffix("_value"),
        "choice": q.choice and f"{q.choice.error} of {len(candidates(q))}",
        "elements": _listed(q),
        "outer": getattr(q.tensor_scale, "blocks", None),
        "correction": q.correction,
        "micro-exponents": q.micro_exponents or None,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def in_groups(use: Use) -> bool:
    """Whether the table-driven kernel computes an operand with its block options, which members then have to share.

    Groups of 16 make up its blocks, and all under an outer scale; the first candidate is the quantizer's own.
    """
    q, outer = use.quantizer, 1
    if type(q) is not BlockQuantizer or not uncovered_by_core(use) or uncovered(use) or q.outliers is not None:
        return False
    if isinstance(q.tensor_scale, Outer):
        outer = q.tensor_scale.blocks or 1  # of a row: its largest magnitude comes from a launch before
    correction = correction_code(q)
    corrected = 1 if correction is None else max(1, correction.group // (q.block or 1))
    first, *others = candidates(q)
    return (
        _power(q.block, 16, LARGEST_BLOCK)
        and _power(q.tile, 1, LARGEST_TILE)
        and _power(outer, 1, max(LARGEST_BLOCK // q.block, 1))
        and type(q.statistic) in _IN_GROUPS
        and _power(corrected, 1, max(LARGEST_BLOCK // q.block, 1))
        and (not q.micro_exponents or (q.micro_exponents[0] <= 16 and q.choice is None and q.gain == 1))
        and (first.gain, first.codes) == (1.0, 0)
        and _few_values(q, [own.element for own in (first, *others)])
    )


def _few_values(q: BlockQuantizer, formats: list[Format]) -> bool:
    """Whether all elements are numbers of few bits, or all of short lists, which are cut without random bits."""
    lists = [fmt for fmt in formats if isinstance(fmt, ValueFormat)]
    if not lists:
        return not any(map(_element, formats))
    plain = q.rounding.random_bits == 0 and q.correction is None and not q.micro_exponents
    longest = max(len(half) for fmt in lists for half in fmt.halves)
    return plain and len(lists) == len(formats) and longest <= LONGEST_LIST


def inner(use: Use) -> Use:
    """What quantizes the parts of an operand that outlier handling has split."""
    assert isinstance(use.quantizer, BlockQuantizer)
    return Use(replace(use.quantizer, outliers=None), None)


def uncovered(use: Use) -> str:
    """'' when a kernel computes this operand, else the reason in words.

    A GPU leaves to plain torch what ``dse.fused.checked`` names.
    """
    reason = uncovered_by_core(use)
    if not reason or type(use.quantizer) is not BlockQuantizer:
        return reason
    if use.quantizer.outliers is not None:
        fits, why = type(use.quantizer.outliers) in (Clamp, Asymmetric), unchecked("outliers")
        own = "" if fits and not why else f"outliers {type(use.quantizer.outliers).__name__}"
        own = f"{own}: {why}" if fits and why else own
        return own or _rotation(use.rotation) or uncovered(inner(use))
    return _rotation(use.rotation) or next(filter(None, _general_reasons(use.quantizer)), "")


def _general_reasons(q: BlockQuantizer) -> tuple[str, ...]:
    """What the general kernels of blocks leave to the reference."""
    return (
        "" if type(q.statistic) in STATISTICS else f"statistic {type(q.statistic).__name__}",
        "" if q.choice is None or q.choice.error in ERRORS else f"error {q.choice.error}",
        _correction(q),
        _micro_exponents(q),
        _of_rows(q),
        "" if type(q.convention) in (Decode, Encode) else f"convention {type(q.convention).__name__}",
        "" if q.tensor_scale is None or type(q.tensor_scale) in LEVELS else
        f"tensor scale {type(q.tensor_scale).__name__}",
        _rounding(q.rounding, "rounding"),
        _rounding(q.scale_rounding, "scale rounding"),
        *(
            f"element format {how.element.name}"
            for how in candidates(q)
            if not (isinstance(how.element, ValueFormat) or _signed(how.element))
        ),
        f"a choice of lists of values: {why}" if q.choice and _listed(q) and (why := unchecked("grids")) else "",
        "" if q.scale.emin >= -127 and q.scale.man <= 23 else f"scale format {q.scale.name}",
    )  # fmt: skip


def _rotation(rotation: Rotation | None) -> str:
    return "" if rotation is None or type(rotation) is Hadamard else f"rotation {rotation}"


def uncovered_by_core(use: Use) -> str:
    """'' when the table-driven kernel computes this operand, else the reason in words."""
    quantizer, rotation = use
    if reason := _rotation(rotation):
        return reason
    if type(quantizer) in (Identity, BFloat16):
        return ""
    if type(quantizer) is not BlockQuantizer:
        return f"quantizer {type(quantizer).__name__}"
    return next(filter(None, _reasons(quantizer)), "")


def _reasons(q: BlockQuantizer) -> tuple[str, ...]:
    return (
        "" if _power(q.block, 16, LARGEST_BLOCK) else f"blocks of {q.block or 'a whole row'}",
        "" if _power(q.tile, 1, LARGEST_TILE) else f"tiles of {q.tile or 'all'} rows",
        "" if type(q.statistic) is AbsMax else f"statistic {type(q.statistic).__name__}",
        "" if q.outliers is None else f"outliers {type(q.outliers).__name__}",
        "" if q.choice is None else f"choice {type(q.choice).__name__}",
        "" if q.correction is None else f"correction {type(q.correction).__name__}",
        "" if not q.micro_exponents else "micro-exponents",
        "" if type(q.convention) in (Decode, Encode) else f"convention {type(q.convention).__name__}",
        "" if q.tensor_scale is None or type(q.tensor_scale) in (Current, Delayed) else
        f"tensor scale {type(q.tensor_scale).__name__}",
        _rounding(q.rounding, "rounding"),
        _rounding(q.scale_rounding, "scale rounding"),
        _element(q.element),
        "" if q.scale.emin >= -127 and q.scale.man <= 23 else f"scale format {q.scale.name}",
    )  # fmt: skip


def _correction(q: BlockQuantizer) -> str:
    if q.correction is None:
        return ""
    own, why = f"correction {type(q.correction).__name__}", unchecked("corrections")
    return own if type(q.correction) not in CORRECTIONS else f"{own}: {why}" if why else ""


def _micro_exponents(q: BlockQuantizer) -> str:
    """Parts are cut out of a program's tile, which has to hold whole blocks."""
    if not q.micro_exponents:
        return ""
    if isinstance(q.tensor_scale, Outer) and q.tensor_scale.blocks == 0:
        return "micro-exponents under outer scales of rows"
    outer = q.tensor_scale.blocks if isinstance(q.tensor_scale, Outer) else 1
    padded = prod(1 << max(n - 1, 0).bit_length() for n in (q.tile, q.block, outer))
    if q.block == 0 or q.tile == 0 or padded > LARGEST_WHOLE:
        return "micro-exponents of blocks that no program holds"
    if any(n & n - 1 for n in q.micro_exponents):
        return f"micro-exponents of {max(n for n in q.micro_exponents if n & n - 1)} elements"
    if q.correction is not None:
        return "micro-exponents with corrected scales"
    return f"micro-exponents: {why}" if (why := unchecked("micro-exponents")) else ""


def _listed(q: BlockQuantizer) -> str | None:
    """Whether elements are of lists of values; None: of powers of two."""
    lists = {isinstance(how.element, ValueFormat) for how in candidates(q)}
    return "of a list" if lists == {True} else "of lists and powers of two" if True in lists else None


def _of_rows(q: BlockQuantizer) -> str:
    rows = isinstance(q.tensor_scale, Outer) and q.tensor_scale.blocks == 0
    why = unchecked("outer scales of rows") if rows else ""
    return why and f"an outer scale per row: {why}"


def _power(n: int, low: int, high: int) -> bool:
    return low <= n <= high and n & n - 1 == 0


def _rounding(rounding: Rounding, what: str) -> str:
    return "" if type(rounding) in _ROUNDINGS else f"{what} {type(rounding).__name__}"


def _signed(fmt: Format) -> bool:
    return fmt.signed and fmt.subnormals and fmt.emin >= -126


def _element(fmt: Format) -> str:
    """Nine fractional bits fit above the lattice, and the smallest step is a normal float."""
    fits = fmt.signed and fmt.subnormals and fmt.man <= 8 and fmt.emin - fmt.man >= -100 and fmt.emax <= 100
    return "" if fits else f"element format {fmt.name}"
