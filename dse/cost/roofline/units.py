"""Which unit of the matrix core reads a GEMM's operands, and why none does."""

from __future__ import annotations

from typing import NamedTuple

from dse.cost.overhead import operand_bits
from dse.cost.profiles import Profile, Unit
from dse.cost.shapes import LayerShape
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Identity, Quantizer
from dse.numerics.techniques.tensor_scales import Outer

CONTRACTED = {"fprop": "K", "dgrad": "N", "wgrad": "M"}
"""The axis that each GEMM sums over."""
_ALIGNED = {4: 32, 8: 16}
"""Elements of an operand's row that fill the 16 bytes at which a matrix unit reads it, by width."""


class Rate(NamedTuple):
    """The width at whose rate a GEMM runs. ``missing``: what the hardware lacks for its operands, else empty.

    ``emulated``: whether it runs in BF16 on decoded operands because of that.
    """

    width: int
    missing: str = ""
    emulated: bool = False


def gemm_rate(gemm: Gemm, name: str, shape: LayerShape, profile: Profile, imagined: bool = False) -> Rate:
    """The rate of one GEMM (``name``: fprop, dgrad or wgrad) of a layer on hardware.

    ``imagined``: as if the matrix unit read the operands' format and shape at the rate of their width, where it has
    one. A GEMM with an operand in BF16 runs in BF16.
    """
    widths = [operand_bits(q) for q in (gemm.lhs, gemm.rhs)]
    if max(widths) > 8:
        return Rate(32 if any(isinstance(q, Identity) for q in (gemm.lhs, gemm.rhs)) else 16)
    units = [_unit(q, profile, _contracted(name, shape)) for q in (gemm.lhs, gemm.rhs)]
    missing = next((unit for unit in units if isinstance(unit, str)), "") or _together(units, profile)
    if not missing:
        missing = _unaligned(name, shape, units, max(widths))
    if not missing:
        return Rate(max(unit.rate for unit in units if isinstance(unit, Unit)))
    slot = 4 if max(widths) <= 4 else 8
    if imagined and slot in profile.matrix:
        return Rate(slot, missing)
    return Rate(16, missing, emulated=True)


def _contracted(name: str, shape: LayerShape) -> int:
    return {"K": shape.inputs, "N": shape.outputs, "M": shape.tokens}[CONTRACTED[name]]


def _unit(quantizer: Quantizer, profile: Profile, extent: int) -> Unit | str:
    """The unit that reads an operand, or what is missing."""
    assert isinstance(quantizer, BlockQuantizer)
    element = quantizer.element.name
    if why := _beyond(quantizer):
        return why
    fitting = [unit for unit in profile.units if element in unit.elements]
    if not fitting:
        return f"a unit for {element}"
    if not quantizer.block or quantizer.block >= extent:
        bare = [unit for unit in fitting if unit.scale is None]
        return bare[0] if bare else f"a unit for {element} without block scales"
    scaled = [unit for unit in fitting if unit.scale == quantizer.scale.name]
    whole = [unit for unit in scaled if any(quantizer.block % size == 0 for size in unit.blocks)]
    return whole[0] if whole else f"a unit for {element} with {quantizer.scale.name} scales per {quantizer.block}"


def _beyond(quantizer: BlockQuantizer) -> str:
    """What a block has beyond codes of one grid and one scale."""
    if quantizer.micro_exponents:
        return "a unit for micro-exponents"
    if quantizer.choice is not None:
        found = quantizer.choice.candidates(quantizer.element, quantizer.constant or quantizer.element.max)
        if len({own.element for own in found}) > 1:
            return "a unit that takes each block's grid from a flag"
    if isinstance(quantizer.tensor_scale, Outer) and quantizer.tensor_scale.blocks:
        return f"a second scale per {quantizer.tensor_scale.blocks * quantizer.block} elements of a sum"
    return ""


def _together(units: list[Unit | str], profile: Profile) -> str:
    """Two operands need scales of one kind."""
    a, b = (unit for unit in units if isinstance(unit, Unit))
    alike = (a.scale, a.blocks) == (b.scale, b.blocks)
    return "" if alike else f"a unit for {a.name} times {b.name}"


def _unaligned(name: str, shape: LayerShape, units: list[Unit | str], width: int) -> str:
    """A contraction that is no whole number of blocks and of the bytes that are read at once."""
    sizes = [size for unit in units if isinstance(unit, Unit) for size in unit.blocks]
    step = max([_ALIGNED[4 if width <= 4 else 8], *sizes])
    extent = _contracted(name, shape)
    return "" if extent % step == 0 else f"{CONTRACTED[name]} = {extent:,} as a multiple of {step} in {name}"


__all__ = ["CONTRACTED", "Rate", "gemm_rate"]
