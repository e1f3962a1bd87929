"""A hardware profile: what an accelerator can do, and how fast at best."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from dse.cost.described import Described, NonEmpty
from dse.errors import nearest
from dse.numerics.formats import ELEMENTS, SCALES

Width = Literal[4, 8, 16, 32]
"""Operand width of a matrix unit's rate, bits."""

INSTRUCTIONS = {
    "narrow_cast": "several elements are rounded to 4 or 6 bits and packed by one instruction",
    "byte_cast": "the same with 8 bits",
    "stochastic_cast": "elements are rounded to 4 bits stochastically, from random bits in a register",
    "scale_cast": "a block scale is rounded to E8M0 by one instruction",
}
"""Conversion instructions that a profile may have."""


class Number(Described):
    """A number and where it is from."""

    value: PositiveFloat
    source: NonEmpty


class Unit(Described):
    """A kind of operands that the matrix unit reads: ``elements`` with a ``scale`` per block of one of ``blocks``.

    Without a scale format the unit multiplies bare elements, and scales that are constant along the contraction axis
    are applied in the epilogue. ``rate``: the width whose rate it has.
    """

    name: NonEmpty
    elements: tuple[str, ...]
    rate: Width
    scale: str | None = None
    blocks: tuple[PositiveInt, ...] = ()

    @field_validator("elements")
    @classmethod
    def _known_elements(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in ELEMENTS:
                raise ValueError(f"no element format {name!r}{nearest(name, ELEMENTS)}")
        return names

    @field_validator("scale")
    @classmethod
    def _known_scale(cls, name: str | None) -> str | None:
        if name is not None and name not in SCALES:
            raise ValueError(f"no scale format {name!r}{nearest(name, SCALES)}")
        return name


class Profile(Described):
    """Rates of one accelerator, dense, with their sources.

    - ``matrix``: peak of the matrix unit by operand width, FLOP/s (a multiply-add is two); ``units``: the operands that
      it reads, beside BF16;
    - ``vector``: FP32 outside of the matrix unit, FLOP/s, a multiply-add counted as two; ``processors``: compute units
      that each work on a tile of a GEMM's output;
    - ``bandwidth``: main memory, bytes/s; ``l2``: the last cache before it, bytes;
    - ``launch``: from one kernel's end to the next one's begin, s; ``sync``: a dependency of the whole grid inside of a
      kernel, s;
    - ``instructions``: conversions in hardware (``INSTRUCTIONS``), each with its source.
    """

    name: NonEmpty
    title: NonEmpty
    matrix: dict[Width, Number]
    units: tuple[Unit, ...] = ()
    vector: Number
    processors: Number
    bandwidth: Number
    l2: Number
    launch: Number
    sync: Number
    instructions: Annotated[dict[str, NonEmpty], Field(default_factory=dict)]

    @field_validator("instructions")
    @classmethod
    def _known_instructions(cls, found: dict[str, str]) -> dict[str, str]:
        for name in found:
            if name not in INSTRUCTIONS:
                raise ValueError(f"no instruction {name!r}{nearest(name, INSTRUCTIONS)}")
        return found

    @model_validator(mode="after")
    def _rates_of_units(self) -> Profile:
        if 16 not in self.matrix:
            raise ValueError("matrix: the rate of 16-bit operands is missing, which BF16 needs")
        for unit in self.units:
            if unit.rate not in self.matrix:
                raise ValueError(f"units: {unit.name} runs at the rate of {unit.rate} bits, which matrix lacks")
        return self

    def peak(self, width: int) -> float:
        """Peak of the matrix unit, FLOP/s; for a width without a rate, that of the next wider operands."""
        wider = [own for own in self.matrix if own >= width]
        return self.matrix[min(wider) if wider else max(self.matrix)].value


__all__ = ["INSTRUCTIONS", "Number", "Profile", "Unit", "Width"]
