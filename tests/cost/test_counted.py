"""Stated operations against those that the plain reference makes on a small operand.

An element's rounding to the grid is one conversion instruction in hardware, and counts as one here. Decoding (code
times scale, one multiplication per element) is the emulation's: a matrix unit does it. All else is equal to what
techniques state, or differs by a number of operations that is listed with its reason.
"""

from __future__ import annotations

import pytest
import torch

from dse.cost.roofline.instructions import EMULATED_CAST, STOCHASTIC_TAIL
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, UE4M3
from dse.numerics.grid import round_to_grid
from dse.numerics.points import POINTS
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.statistics import AbsMax
from dse.recipes import RECIPES
from tests.cost.tracing import traced

ROWS, COLUMNS = 64, 256
DECODE = 1
"""Code times scale, per element."""
BEYOND = {
    "choice": (1, 6, "the second decoding, and conversions between units: a kernel compares in units of the scale"),
    "outliers": (11, 12, "quantiles by sorting, and the clamped parts by masks, NaN and infinities looked at"),
    "micro-exponents": (10, 11, "exponents of parts spread over their elements; a kernel shifts codes"),
    "quest": (-4, -3, "elements are not squared twice for mean and deviation, and need no maximum"),
}
"""What differs -> least and most operations per element beyond those stated, and why."""


def quantizers() -> list[BlockQuantizer]:
    """The different quantizers of the gallery that draw nothing."""
    found = (recipe.quantizer(point) for recipe in RECIPES.values() for point in POINTS)
    return list(dict.fromkeys(q for q in found if isinstance(q, BlockQuantizer) and not q.random_bits))


def difference(quantizer: BlockQuantizer) -> str:
    """Which of ``BEYOND`` the quantizer has, if any."""
    names = [name for name, _ in quantizer.ops() if name in BEYOND]
    return names[0] if names else ("" if isinstance(quantizer.statistic, AbsMax) else "quest")


def test_quantizers_do_what_they_state_per_element() -> None:
    x = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    seen = set()
    for quantizer in quantizers():
        with traced("cast") as tracer:
            quantizer(x)
        stated = sum(ops.element for _, ops in quantizer.ops())
        beyond = tracer.per_element(x.numel()) - stated - DECODE
        seen.add(what := difference(quantizer))
        least, most, _ = BEYOND.get(what, (0, 0, ""))
        assert least <= beyond <= most, (quantizer, beyond)
    assert seen == {"", *BEYOND}


def test_scales_take_few_operations_beyond_those_stated() -> None:
    """Guards against zeros and overflow, 1 or 2 per block for plain blocks; the tensor scale's are per tensor."""
    x = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    for quantizer in quantizers():
        if difference(quantizer) or quantizer.tensor_scale or quantizer.tile > 1 or not quantizer.block:
            continue
        with traced("cast") as tracer:
            quantizer(x)
        stated = sum(ops.block for _, ops in quantizer.ops())
        count = x.numel() // quantizer.block
        assert stated + 1 <= tracer.per_block(count) <= stated + 4, quantizer


@pytest.mark.parametrize("fmt", [E2M1, E4M3, UE4M3], ids=str)
def test_a_cast_without_an_instruction(fmt: object) -> None:
    """What hardware without a conversion pays: the reference's operations (``instructions.EMULATED_CAST``)."""
    with traced() as tracer:
        round_to_grid(torch.rand(ROWS, COLUMNS), fmt)  # type: ignore[arg-type]
    assert tracer.per_element(ROWS * COLUMNS) == EMULATED_CAST


def test_stochastic_rounding_states_its_draw_and_its_tail() -> None:
    """Stated: 4 to draw and ``STOCHASTIC_TAIL`` to add and truncate; the reference adds the sign's handling."""
    rounding = Stochastic()
    bits = torch.randint(0, 256, (ROWS, COLUMNS))
    with traced() as tracer:
        rounding.lattice(torch.randn(ROWS, COLUMNS), bits)
    names = {name for name, _ in tracer.counts}
    assert {"add_", "trunc"} <= names
    assert rounding.ops().element == 4 + STOCHASTIC_TAIL


@pytest.mark.parametrize("size", [16, 32, 128])
def test_a_fast_hadamard_transform_states_its_additions(size: int) -> None:
    """log2(size) additions and the sign; the reference multiplies by 1 / sqrt(size) too, which scales can hold."""
    rotation = Hadamard(size, "none")
    x = torch.randn(ROWS, COLUMNS)
    basis = rotation.basis(x, None)
    with traced() as tracer:
        rotation.turn(x, basis)
    operations = sum(times * of / x.numel() for (_, of), times in tracer.counts.items())
    assert operations == pytest.approx(rotation.ops().element + 1)
