"""The contract of everything registered, at work: no silent option, packs equal to solo runs, odd values and shapes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from tests.contract.members import FITTING, MEMBERS, QUANTIZERS, holder, variants

every_quantizer = pytest.mark.parametrize("what", QUANTIZERS)
CLOCK = torch.tensor([[3, 7], [3, 8], [11, 7]])


def sample(*lead: int, rows: int = 6, columns: int = 37, seed: int = 0) -> Tensor:
    """Normal data with a few outliers; blocks do not divide it."""
    x = torch.randn(*lead, rows, columns, generator=torch.Generator().manual_seed(seed))
    x[..., ::5, ::11] *= 20
    return x


def test_every_technique_is_somewhere_in_the_quantizers_below() -> None:
    """... so that what follows looks at all of them, each in a combination that has a meaning."""
    used = {type(getattr(q, f.name)) for q in QUANTIZERS.values() for f in fields(q)}
    inside = [cls for base, _, cls in MEMBERS if holder(base)[0] is BlockQuantizer]
    assert [cls.__name__ for cls in inside if cls not in used] == []


@every_quantizer
def test_every_parameter_makes_a_difference(what: str) -> None:
    """No option is silently ignored: away from its default it changes f or its derivative, on some operand."""
    name = what.split("=")[0]
    for q in FITTING[what]:
        value, before = getattr(q, name), usual(name, getattr(q, name))
        if value == before or any(differ(q, replace(q, **{name: before}), x) for x in OPERANDS):
            return
    raise AssertionError(f"{what} changes nothing")


def usual(name: str, value: Any) -> Any:
    """What a value is compared with: a technique's own default for its variants, the quantizer's for all else."""
    technique = is_dataclass(value) and not isinstance(value, Format)
    return type(value)() if technique and value != type(value)() else getattr(BlockQuantizer(), name)


OPERANDS = [
    sample(),
    sample(rows=40, columns=64),
    sample().abs() * 1e-4,
    (8 * sample()).round() / 4,  # ties
    torch.cat([sample(), sample() * 3e-9], 0),  # scales that underflow
    torch.cat([sample(), sample() * 1e8], 0),  # scales that saturate
]


def differ(a: BlockQuantizer, b: BlockQuantizer, x: Tensor) -> bool:
    """Whether two quantizers differ in value or derivative at ``x``, at one of three steps of a layer with a memory."""
    g = x.flip(-1).cos()
    found = []
    for q in (a, b):
        memory = torch.zeros(6)
        for step in (2, 3, 6):
            key = Key(torch.tensor([5, step]), memory=memory)
            found.append(torch.stack([q.dequantized(x * step, key), q.vjp(x * step, g, key)]))
    return any(not torch.equal(p, r) for p, r in zip(found[:3], found[3:], strict=True))


@every_quantizer
def test_members_of_a_pack_equal_their_solo_results(what: str) -> None:
    """A leading stack axis with a stacked clock and memory: bit for bit, value, tensor scale and derivative."""
    q = QUANTIZERS[what]
    x, g = sample(3, rows=5), sample(3, rows=5, seed=1)  # sizes that leave remainders of vector registers
    memory = torch.zeros(3, 6)
    packed = Key(CLOCK, 2, 1, memory=memory)
    whole = q(x, packed)
    derivative = q.vjp(x, g, packed)
    for i in range(3):
        alone = Key(CLOCK[i], 2, 1, memory=torch.zeros(6))
        one = q(x[i], alone)
        assert torch.equal(one.values, whole.values[i])
        assert (one.alpha is None) == (whole.alpha is None)
        assert one.alpha is None or torch.equal(one.alpha.expand_as(whole.alpha[i]), whole.alpha[i])
        assert torch.equal(q.vjp(x[i], g[i], alone), derivative[i])
        assert torch.equal(alone.memory, memory[i])


@every_quantizer
def test_zeros_nan_infinities_and_subnormals(what: str) -> None:
    """Zeros stay zeros, NaN stays visible, an infinity stays one or becomes NaN, tiny and large stay finite."""
    for dtype in (torch.float32, torch.float64):
        look_at_special_values(QUANTIZERS[what], dtype)


def look_at_special_values(q: BlockQuantizer, dtype: torch.dtype) -> None:
    key = Key(torch.tensor([5, 2]), memory=torch.zeros(6))
    assert not q.dequantized(torch.zeros(3, 40, dtype=dtype), key).any()
    x = sample().to(dtype)
    x[0] = 0
    ordinary = q.dequantized(x, key)
    assert ordinary.dtype == dtype
    assert ordinary.shape == x.shape
    assert ordinary.isfinite().all()
    assert not ordinary[0].any()
    assert q.vjp(x, x.cos(), key).isfinite().all()
    for special in (nan, inf, -inf):
        y = x.clone()
        y[2, 7] = special
        found = q.dequantized(y, key)[2, 7]
        assert bool(found.isnan()) or float(found) == special
    for power in (2.0**-149, 2.0**-140, 2.0**-126, 1e-30, 1e15):
        assert q.dequantized(x * power, key).isfinite().all(), power
    assert q.dequantized(x * 1e37, key).shape == x.shape  # may overflow; an exception would be the wrong answer


SHAPES = [(1, 1), (3, 7), (1, 100), (17, 1), (0, 16), (4, 0), (0, 0), (2, 5, 33)]


@every_quantizer
def test_odd_and_empty_shapes(what: str) -> None:
    q = QUANTIZERS[what]
    for shape in SHAPES:
        lead = shape[:-2]
        key = Key(CLOCK[: lead[0]] if lead else CLOCK[0], memory=torch.zeros(*lead, 6))
        x = sample(*lead, rows=shape[-2], columns=shape[-1])
        found = q(x, key)
        assert found.values.shape == found.dequantize().shape == shape
        assert found.dequantize().isfinite().all()
        assert q.vjp(x, x, key).shape == shape


OF_GEMMS = [(base, cls) for base, _, cls in MEMBERS if holder(base)[0] is Gemm and base is not Quantizer]


@pytest.mark.parametrize(("base", "cls"), OF_GEMMS, ids=[cls.__name__ for _, cls in OF_GEMMS])
def test_members_of_gemms_work_in_packs_and_in_float64(base: type, cls: Any) -> None:
    """Rotations and accumulations: a stack equals its members, in either dtype."""
    for obj in variants(cls):
        for dtype in (torch.float32, torch.float64):
            gemm = Gemm(BlockQuantizer(), BlockQuantizer(), **{holder(base)[1]: obj})
            a, b = sample(3).to(dtype), sample(3, seed=1).to(dtype)
            y = gemm(a, b, Key(CLOCK, 2, 4))
            assert y.dtype == dtype
            for i in range(3):
                alone = gemm(a[i], b[i], Key(CLOCK[i], 2, 4))
                torch.testing.assert_close(y[i], alone, rtol=1e-6, atol=1e-6)
                one, many = gemm.operands(a[i], b[i], Key(CLOCK[i], 2, 4)), gemm.operands(a, b, Key(CLOCK, 2, 4))
                assert all(torch.equal(p.values, q.values[i]) for p, q in zip(one, many, strict=True))
