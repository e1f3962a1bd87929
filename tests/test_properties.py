"""Laws that hold for every operand: hypothesis looks for one that breaks them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import BF16, E2M1, ELEMENTS, FP32, SCALES, UE4M3, UE5M3, Format
from dse.numerics.grid import round_to_grid
from dse.numerics.techniques.choices import IF4, FourOverSix, ScaleSweep
from dse.numerics.techniques.conventions import Encode
from dse.numerics.techniques.outliers import Asymmetric
from dse.numerics.techniques.rounding import (
    NEAREST_EVEN,
    AwayFromZero,
    MantissaEven,
    NearestAway,
    NearestEven,
    Rounding,
    Stochastic,
    TowardZero,
)
from dse.numerics.techniques.tensor_scales import Current, Outer

FORMATS = [*ELEMENTS.values(), *SCALES.values(), BF16]
ROUNDINGS = [NearestEven(), NearestAway(), MantissaEven(), TowardZero(), AwayFromZero(), Stochastic(8), Stochastic(2)]
formats = pytest.mark.parametrize("fmt", FORMATS, ids=[f"{f.name}{'' if f.signed else ' scale'}" for f in FORMATS])
floats = st.floats(allow_nan=False, width=32)
few = settings(max_examples=15)


@st.composite
def numbers(draw: st.DrawFn, fmt: Format) -> Tensor:
    """A sorted vector: any floats, values around the format's range, its grid and its midpoints, in either dtype."""
    near = st.floats(-1.3 * fmt.max, 1.3 * fmt.max) if math.isfinite(1.3 * fmt.max) else floats
    scaled = st.builds(lambda m, e: m * 2.0**e, st.integers(-17, 17), st.integers(fmt.emin - fmt.man - 2, fmt.emax + 1))
    values = draw(st.lists(floats | near | scaled, min_size=1, max_size=20))
    return torch.tensor(sorted(values), dtype=draw(st.sampled_from([torch.float32, torch.float64])))


def rounded(u: Tensor, fmt: Format, rounding: Rounding, draw: int) -> Tensor:
    """With one and the same random draw for every element."""
    bits = torch.full_like(u, draw % 2**rounding.random_bits, dtype=torch.int64) if rounding.random_bits else None
    return round_to_grid(u, fmt, rounding, bits)


@formats
@given(data=st.data(), rounding=st.sampled_from(ROUNDINGS), bits=st.integers(0, 255))
@few
def test_casts_are_idempotent_monotonic_and_odd(
    fmt: Format, data: st.DataObject, rounding: Rounding, bits: int
) -> None:
    u = data.draw(numbers(fmt))
    q = rounded(u, fmt, rounding, bits)
    assert torch.equal(rounded(q, fmt, rounding, 255 - bits), q)  # the grid stays, whatever is drawn
    assert (q.diff() >= 0).all()
    assert (q.abs() <= fmt.max).all()
    if fmt.signed:
        mirrored = rounded(-u, fmt, rounding, bits)
        assert torch.equal(mirrored, -q)
        assert torch.equal(mirrored.signbit(), (-q).signbit())


@formats
@given(data=st.data(), rounding=st.sampled_from(ROUNDINGS), bits=st.integers(0, 255))
@few
def test_a_cast_moves_by_less_than_a_step(fmt: Format, data: st.DataObject, rounding: Rounding, bits: int) -> None:
    """Half a step to nearest; toward zero and up stay on their side; 2^-man |u| is a step, or the smallest value."""
    u = data.draw(numbers(fmt)).double()
    u = u.abs() if not fmt.signed else u
    u = u[(u.abs() <= fmt.max) & (u.abs() >= (0 if fmt.subnormals else fmt.smallest))]
    q = rounded(u, fmt, rounding, bits)
    step = torch.exp2(u.abs().log2().floor().clamp_min(fmt.emin)) * 2.0**-fmt.man * (1 + 1e-15)
    if isinstance(rounding, NearestEven | NearestAway):
        step = step / 2
    assert ((q - u).abs() <= step).all()
    if isinstance(rounding, TowardZero):
        assert (q.abs() <= u.abs()).all()
    if isinstance(rounding, AwayFromZero):
        assert (q.abs() >= u.abs()).all()


blocks = st.integers(0, 2**32).map(lambda seed: torch.randn(4, 48, generator=torch.Generator().manual_seed(seed)))


@st.composite
def operands(draw: st.DrawFn) -> Tensor:
    """[4, 48] float32 of magnitudes 2^-20 to 2^20: rows of different size, some elements zero, some equal."""
    x = draw(blocks) * torch.exp2(torch.tensor(draw(st.lists(st.integers(-20, 20), min_size=4, max_size=4))))[:, None]
    zeros = draw(st.lists(st.integers(0, 191), max_size=8))
    x.view(-1)[zeros] = 0.0
    return x.bfloat16().float() if draw(st.booleans()) else x


OCP = BlockQuantizer(constant=4.0, scale_rounding=TowardZero())
NVFP4 = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
POWERS = {
    "mxfp4 floor": OCP,
    "e8m0 up": BlockQuantizer(scale_rounding=AwayFromZero()),
    "e8m0 even": BlockQuantizer(constant=4.0, scale_rounding=MantissaEven()),
    "e8m0 guard": replace(OCP, gain=0.75),
    "e8m0 encode": BlockQuantizer(convention=Encode(), constant=4.0),
    "e8m0 asymmetric": BlockQuantizer(outliers=Asymmetric()),
    "fp32": BlockQuantizer(scale=FP32),
    "int4, fp32": BlockQuantizer(ELEMENTS["int4"], FP32, block=0),
    "nvfp4": NVFP4,
    "nvfp4 tile": replace(NVFP4, tile=4),
    "nvfp4 encode": replace(NVFP4, convention=Encode()),
    "nvfp4 divisor": replace(NVFP4, convention=Encode(divisor=True)),
    "nvfp4 unquantized": replace(NVFP4, convention=replace(NVFP4.convention, encode_with="unquantized")),
    "outer": replace(NVFP4, tensor_scale=Outer(2)),
    "four over six": replace(NVFP4, tensor_scale=Current(256.0), choice=FourOverSix()),
    "if4": replace(NVFP4, choice=IF4("max")),
    "sweep": replace(NVFP4, scale_rounding=TowardZero(), choice=ScaleSweep(-1, 2, "mae")),
    "ue5m3": replace(NVFP4, scale=UE5M3, tensor_scale=Current(448.0)),
}
powers = pytest.mark.parametrize("name", POWERS)


@powers
@given(x=operands(), k=st.integers(-30, 30))
@few
def test_powers_of_two_pass_through(name: str, x: Tensor, k: int) -> None:
    """f(2^k X) = 2^k f(X), bit for bit: with power-of-two or FP32 scales, and with a tensor scale of the operand."""
    q = POWERS[name]
    assert torch.equal(q.dequantized(x * 2.0**k), q.dequantized(x) * 2.0**k)


def test_powers_of_two_do_not_pass_through_a_narrow_scale_alone() -> None:
    """Why UE4M3 needs the tensor scale: at 2^-20 every block is flushed."""
    x = torch.randn(4, 48, generator=torch.Generator().manual_seed(0))
    q = replace(NVFP4, tensor_scale=None)
    assert q.dequantized(x).any()
    assert not q.dequantized(x * 2.0**-20).any()


@powers
@given(x=operands())
@few
def test_signs_pass_through(name: str, x: Tensor) -> None:
    q = POWERS[name]
    assert torch.equal(q.dequantized(-x), -q.dequantized(x))
    assert (q.dequantized(x) * x >= 0).all()


@powers
@given(x=operands(), seed=st.integers(0, 2**32))
@few
def test_blocks_do_not_see_each_other(name: str, x: Tensor, seed: int) -> None:
    """Whole blocks, and the elements of each, may change places; so may rows, tile by tile."""
    q = POWERS[name]
    generator = torch.Generator().manual_seed(seed)
    block = q.block or 48
    x = x[:, : 48 // block * block]
    inner = torch.randperm(block, generator=generator)
    outer = torch.randperm(x.shape[1] // block, generator=generator) if name != "outer" else torch.arange(3)
    columns = (outer[:, None] * block + inner).flatten()
    rows = torch.randperm(4, generator=generator)
    assert torch.equal(q.dequantized(x[rows][:, columns]), q.dequantized(x)[rows][:, columns])


@pytest.mark.parametrize("name", ["mxfp4 floor", "e8m0 up", "e8m0 even"])
@given(x=operands())
@few
def test_power_of_two_blocks_are_idempotent(name: str, x: Tensor) -> None:
    """Requantizing what is on the grid already changes nothing, so 'double quantization' along one axis is free."""
    q = POWERS[name]
    once = q.dequantized(x)
    assert torch.equal(q.dequantized(once), once)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("scale", [SCALES["e8m0"], UE5M3, FP32], ids=lambda f: f.name)
@given(x=operands())
@settings(max_examples=5)
def test_errors_are_bounded_by_half_a_step(element: str, scale: Format, x: Tensor) -> None:
    """With scales rounded up nothing saturates: |f(x) - x| <= 2^-(man+1) |x|, or half the smallest step times s."""
    fmt = ELEMENTS[element]
    tensor_scale = Current() if scale is UE5M3 else None
    q = BlockQuantizer(
        fmt, scale, 16, scale_rounding=AwayFromZero() if scale is not FP32 else NEAREST_EVEN, tensor_scale=tensor_scale
    )
    x = x.double()
    peak = x.view(4, 3, 16).abs().amax(-1, keepdim=True)
    s = peak / fmt.max * (2 if scale.man == 0 else 1.125)  # rounded up: by less than that
    if tensor_scale:  # or by the smallest scale
        s = s + peak.amax() / (fmt.max * scale.max) * scale.smallest
    smallest = 2.0 ** (fmt.emin - fmt.man - 1) * s.expand(4, 3, 16).reshape(4, 48)
    bound = torch.maximum(smallest, x.abs() * 2.0 ** -(fmt.man + 1)) if fmt.exp else smallest
    assert ((q.dequantized(x) - x).abs() <= bound * (1 + 1e-6)).all()
