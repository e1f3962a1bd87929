"""The block quantizer: shapes, special blocks, tiles, packs, and what scaling by powers of two must not change."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.cast import cast
from dse.numerics.formats import E2M1, E8M0, SCALES, UE4M3, Format
from dse.numerics.random import Key, key
from dse.numerics.techniques.conventions import Convention, Decode, Encode
from dse.numerics.techniques.rounding import AwayFromZero, Stochastic, TowardZero
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer
from dse.recipes import RECIPES
from tests.quantizers import EXACT, MXFP4, MXFP8, NVFP4, ONE_LEVEL, every, normal


@every
@pytest.mark.parametrize("tile", [1, 4])
@pytest.mark.parametrize("shape", [(1, 1), (3, 15), (5, 16), (7, 33), (16, 100), (2, 3, 50)])
def test_padding_changes_no_value(q: BlockQuantizer, tile: int, shape: tuple[int, ...]) -> None:
    """A shape that does not divide gives what explicit zeros beside it give."""
    q = replace(q, tile=tile)
    x = normal(*shape)
    wide = torch.zeros(*shape[:-2], shape[-2] + -shape[-2] % tile, shape[-1] + -shape[-1] % q.block)
    wide[..., : shape[-2], : shape[-1]] = x
    found, expected = q(x), q(wide)
    assert found.values.shape == x.shape
    assert torch.equal(found.values, expected.values[..., : shape[-2], : shape[-1]])
    if found.alpha is not None:
        assert expected.alpha is not None
        assert torch.equal(found.alpha, expected.alpha)


@every
@pytest.mark.parametrize("shape", [(1, 1), (3, 15), (16, 100), (2, 3, 50)])
def test_zero_means_the_whole_axis_and_so_does_more_than_it(q: BlockQuantizer, shape: tuple[int, ...]) -> None:
    """One scale per row, per column, per tensor: what blocks of exactly that size give."""
    x, (rows, columns) = normal(*shape), shape[-2:]
    for block, tile in ((0, 1), (1, 0), (0, 0), (0, 2), (8, 0)):
        found = replace(q, block=block, tile=tile)
        exact = replace(q, block=block or columns, tile=tile or rows)
        beyond = replace(q, block=block or 2 * columns + 1, tile=tile or 4096)
        assert torch.equal(found.dequantized(x), exact.dequantized(x))
        assert torch.equal(found.dequantized(x), beyond.dequantized(x))
        assert found.block_shape(rows, columns) == (min(tile or rows, rows), min(block or columns, columns))
    flat = replace(q, block=0).dequantized(x.reshape(*shape[:-2], 1, rows * columns))
    assert torch.equal(replace(q, block=0, tile=0).dequantized(x), flat.view(shape))
    columnwise = replace(q, block=0).dequantized(x.mT.contiguous()).mT
    assert torch.equal(replace(q, block=1, tile=0).dequantized(x), columnwise)


@every
@pytest.mark.parametrize("shape", [(0, 32), (4, 0), (0, 0), (2, 0, 8)])
def test_empty_operands_stay_empty(q: BlockQuantizer, shape: tuple[int, ...]) -> None:
    assert q.dequantized(torch.empty(shape)).shape == shape


@every
def test_tiles_share_one_scale(q: BlockQuantizer) -> None:
    """A b x b tile is quantized as one long block, and its transpose gives the transposed values."""
    b = q.block
    x = normal(3 * b, 2 * b)
    tiles = x.view(3, b, 2, b).transpose(1, 2)
    square = replace(q, tile=b)
    long = replace(q, block=b * b).dequantized(tiles.reshape(1, -1)).view(3, 2, b, b)
    assert torch.equal(square.dequantized(x).view(3, b, 2, b).transpose(1, 2), long)
    assert torch.equal(square.dequantized(x.T), square.dequantized(x).T)
    ragged = x[: 2 * b + 5, : b + 3]
    assert torch.equal(square.dequantized(ragged.T), square.dequantized(ragged).T)


@every
def test_a_pack_equals_its_members_alone(q: BlockQuantizer) -> None:
    """Leading axes are members: nothing is shared between them, the tensor scale and the random bits least of all."""
    for rounded in (q, replace(q, rounding=Stochastic(), scale_rounding=Stochastic(12)), replace(q, tile=4)):
        x = normal(2, 3, 9, 50) * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]
        clock = torch.arange(12).view(2, 3, 2)
        pack = rounded(x, Key(clock, layer=1, point=4))
        for i in range(2):
            for j in range(3):
                solo = rounded(x[i, j], Key(clock[i, j], layer=1, point=4))
                assert torch.equal(pack.values[i, j], solo.values)
                if solo.alpha is not None:
                    assert pack.alpha is not None
                    assert torch.equal(pack.alpha[i, j], solo.alpha)
                    assert solo.alpha.shape == (1, 1)


def test_stochastic_draws_are_fresh_by_point_step_layer_and_purpose() -> None:
    q = BlockQuantizer(E2M1, UE4M3, 16, rounding=Stochastic())
    x = normal(64, 64)
    keys = [key(), key(seed=1), key(step=1), key(layer=1), key(point=1)]
    results = [q.dequantized(x, k) for k in keys]
    assert torch.equal(results[0], q.dequantized(x, key()))
    for i, a in enumerate(results):
        for b in results[i + 1 :]:
            assert not torch.equal(a, b)
    with pytest.raises(ValueError, match="Key"):
        q(x)


def test_scales_and_elements_draw_from_streams_of_their_own() -> None:
    """Draw 0 rounds the elements, laid out as the operand is; draw 1 the scales, laid out as [rows, blocks]."""
    q = BlockQuantizer(E2M1, UE4M3, 16, rounding=Stochastic(), scale_rounding=Stochastic(12))
    x, k = normal(8, 64), key(seed=2, point=3)
    z = x.view(8, 4, 16).abs().amax(-1)
    s = cast(z * torch.tensor(1 / 6), UE4M3, Stochastic(12), bits=k.fork(1).bits(8, 4, 12)).unsqueeze(-1)
    bits = k.fork(0).bits(8, 64, 8).view(8, 4, 16)
    expected = cast(x.view(8, 4, 16) * (1 / s), E2M1, Stochastic(), bits=bits) * s
    assert torch.equal(q.dequantized(x, k), expected.view(8, 64))


def test_stochastic_elements_are_unbiased() -> None:
    """Over 1,024 steps: within 5 standard errors, plus half the 2^-8 step that P(up) has with 8 bits."""
    q = BlockQuantizer(E2M1, E8M0, 32, rounding=Stochastic(), scale_rounding=AwayFromZero())  # never saturates
    x = normal(4, 64)
    clock = torch.stack([torch.zeros(1024, dtype=torch.int64), torch.arange(1024)], -1)
    draws = q.dequantized(x.expand(1024, 4, 64), Key(clock)).double()
    low, high = (replace(q, rounding=r).dequantized(x).double() for r in (TowardZero(), AwayFromZero()))
    assert bool(((draws == low) | (draws == high)).all())
    gap = (high - low).abs()
    p = ((x - low).abs() / gap.clamp_min(1e-30)).clamp(2.0**-9, 1 - 2.0**-9)
    error = draws.mean(0) - x
    assert bool((error.abs() <= 5 * gap * (p * (1 - p) / 1024).sqrt() + gap * 2.0**-9).all())
    assert abs(error.mean()) < 5 * gap.mean() * (0.25 / 1024 / x.numel()) ** 0.5  # no drift over the elements either


@settings(max_examples=60)
@given(st.sampled_from([MXFP4, MXFP8, NVFP4, EXACT]), st.integers(-40, 40), st.integers(0, 2**31))
def test_powers_of_two_pass_through(q: BlockQuantizer, k: int, seed: int) -> None:
    """f(2^k X) = 2^k f(X), bit for bit, while no scale leaves its range."""
    x = normal(4, 70, seed=seed)
    assert torch.equal(q.dequantized(x * 2.0**k), q.dequantized(x) * 2.0**k)


@settings(max_examples=60)
@given(st.sampled_from([MXFP4, MXFP8, ONE_LEVEL, NVFP4]), st.integers(0, 2**31))
def test_odd_and_bounded(q: BlockQuantizer, seed: int) -> None:
    """f(-X) = -f(X), and |f(X)| <= amax(block) times what rounding a scale can add (1/16, or 2 for E8M0)."""
    x = normal(4, 64, seed=seed)
    f = q.dequantized(x)
    assert torch.equal(q.dequantized(-x), -f)
    slack = 2.0 if q.scale is E8M0 else 1 + 1 / 16
    assert bool(
        (f.unflatten(-1, (-1, q.block)).abs().amax(-1) <= slack * x.unflatten(-1, (-1, q.block)).abs().amax(-1)).all()
    )


@pytest.mark.parametrize("convention", [Decode(), Encode(), Encode(divisor=True)], ids=str)
@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda f: f.name)
def test_every_scale_format_takes_a_tensor_scale(scale: Format, convention: Convention) -> None:
    """Also those as wide as FP32, where a target of scale.max would overflow."""
    x = normal(8, 64)
    for tensor_scale in (Current(), Outer(2), Delayed(target=None)):
        q = BlockQuantizer(E2M1, scale, 16, convention=convention, tensor_scale=tensor_scale)
        errors = [(q.dequantized(x * a) / a - x).norm() / x.norm() for a in (1e-6, 1e-3, 1.0, 1e3, 1e6)]
        assert max(errors) < 0.16, errors
        assert max(errors) - min(errors) < 0.01  # the amplitude of the operand makes no difference


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "ue5m3"])
def test_decoded_values_are_exact_in_bf16(name: str) -> None:
    """E2M1 times an 8-bit block scale has at most 8 significand bits; the tensor scale stays outside."""
    values = RECIPES[name].fprop.lhs(normal(64, 256)).values
    assert torch.equal(values.bfloat16().float(), values)


def test_any_memory_layout() -> None:
    x = normal(48, 80)
    for view in (x.T, x[::2, 5:], x[:1].expand(16, -1), x.view(48, 2, 40).transpose(0, 1)):
        assert torch.equal(NVFP4.dequantized(view), NVFP4.dequantized(view.clone().contiguous()))
    kept = x.clone()
    NVFP4(x)
    assert torch.equal(x, kept)  # the operand is not written to


def test_options_out_of_range() -> None:
    for option in ({"block": -1}, {"tile": -1}, {"constant": 0.0}, {"constant": -1.0}, {"constant": nan}):
        with pytest.raises(OptionError):
            BlockQuantizer(**option)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="positive"):
        Current(target=0.0)
