"""Hardware instructions that stand for stated operations, and what is paid where they are missing.

A technique's count (``Ops``) takes a rounding to the element grid, and to a block scale, as one operation. That is a
conversion instruction; hardware without it does the operations of the plain reference, counted by tracing it
(``tests/cost/test_counted.py``). A stochastic rounding states 6 operations per element, 4 to draw and 2 to add and
truncate; an instruction that rounds stochastically saves these 2.
"""

from __future__ import annotations

from dataclasses import replace

from dse.cost.profiles import Profile
from dse.numerics.formats import ELEMENTS
from dse.numerics.ops import Ops

EMULATED_CAST = 7
"""Operations per value to round to nearest on the grid of a narrow format, by ordinary instructions."""
STOCHASTIC_TAIL = 2
"""Operations per element of a stochastic rounding once its bits are drawn: add and truncate."""


def on_hardware(technique: str, ops: Ops, profile: Profile) -> Ops:
    """A technique's operations on this hardware; ``technique``: its name in ``point_counts.techniques``."""
    has = profile.instructions
    if technique.endswith("in blocks"):
        narrow = technique.split()[0] not in ELEMENTS or ELEMENTS[technique.split()[0]].bits < 8
        element = 0 if ("narrow_cast" if narrow else "byte_cast") in has else EMULATED_CAST - 1
        block = 0 if "scale_cast" in has else EMULATED_CAST - 1
        return replace(ops, element=ops.element + element, block=ops.block + block)
    if technique == "element rounding" and ops.random_bits and "stochastic_cast" in has:
        return replace(ops, element=max(ops.element - STOCHASTIC_TAIL, 0))
    return ops


__all__ = ["EMULATED_CAST", "STOCHASTIC_TAIL", "on_hardware"]
