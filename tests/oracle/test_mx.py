"""MXFP4, MXFP6 and MXFP8 with every rule for the shared scale, against torchao, gfloat and exact rational arithmetic.

Bit equality, but for two faults of torchao 0.18, in both of which exact arithmetic gives our values:

- a shared scale of 2^-127: FLOOR, CEIL and EVEN divide by 2^-126 and RCEIL by 1, while the stored scale is 2^-127;
- RCEIL takes ceil(log2(amax / max)) in FP32: where amax / max is up to about 2^-21 above 2^k the logarithm rounds to
  k, the scale comes out half of what it must be, and the block's largest value saturates.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E8M0, ELEMENTS
from dse.numerics.techniques.rounding import AwayFromZero, MantissaEven, NearestAway, Rounding, TowardZero
from tests.oracle.exact import mx_block, shared_exponent
from tests.oracle.operands import KINDS, MX_ELEMENTS, operand, torchao_mx

RULES = ("floor", "ceil", "rceil", "even")
elements = pytest.mark.parametrize("element", MX_ELEMENTS)
rules = pytest.mark.parametrize("rule", RULES)


def quantizer(element: str, rule: str) -> BlockQuantizer:
    """amax over the largest power of two (rceil: over the largest value), rounded as the rule says."""
    fmt = ELEMENTS[element]
    constant = None if rule == "rceil" else 2.0**fmt.emax
    roundings: dict[str, Rounding] = {"floor": TowardZero(), "even": MantissaEven(fmt.man)}
    return BlockQuantizer(fmt, E8M0, 32, constant=constant, scale_rounding=roundings.get(rule, AwayFromZero()))


def split(x: Tensor) -> Tensor:
    return x.reshape(-1, 32)


def exact(x: Tensor, element: str, rule: str) -> Tensor:
    """Blocks [n, 32] quantized in rational arithmetic."""
    return torch.tensor([mx_block(block.tolist(), element, rule) for block in x], dtype=torch.float32)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Per block: equal, where NaN equals NaN."""
    return ((a == b) | (a.isnan() & b.isnan())).all(-1)


@elements
@rules
@pytest.mark.parametrize("kind", KINDS)
def test_torchao(element: str, rule: str, kind: str) -> None:
    x = operand(kind, ELEMENTS[element])
    found = split(quantizer(element, rule).dequantized(x))
    theirs, exponents = torchao_mx(x, element, rule.upper())
    named = split(exponents.view(-1, 1).expand(-1, 32))[:, 0] == 0
    if rule == "rceil":
        ratio = split(x).abs().amax(-1).double() / ELEMENTS[element].max
        above = torch.frexp(ratio).mantissa * 2 - 1
        named |= (above > 0) & (above < 2.0**-20)
    differ = ~same(found, split(theirs))
    assert not (differ & ~named).any(), f"{int((differ & ~named).sum())} blocks differ"
    chosen = differ.nonzero().flatten()[:: max(1, int(differ.sum()) // 10)]
    blocks = split(x)[chosen]
    if len(blocks):
        assert torch.equal(found[chosen], exact(blocks, element, rule)), "the exact result is not ours"


@elements
@rules
def test_torchao_from_bfloat16(element: str, rule: str) -> None:
    """torchao fed with bfloat16 itself."""
    x = operand("bf16", ELEMENTS[element])
    theirs, _ = torchao_mx(x.bfloat16(), element, rule.upper())
    assert torch.equal(quantizer(element, rule).dequantized(x), theirs)


@elements
@rules
def test_exact_arithmetic(element: str, rule: str) -> None:
    """A sample of every kind of operand, subnormal scales included."""
    for kind in KINDS[:-1]:
        x = split(operand(kind, ELEMENTS[element]))
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:10]]
        assert torch.equal(quantizer(element, rule).dequantized(x), exact(x, element, rule)), kind


@elements
@rules
def test_gfloat(element: str, rule: str) -> None:
    """gfloat's block encoder, with its own scale for 'floor' and the exact exponent for the other rules."""
    gfloat = pytest.importorskip("gfloat")
    from gfloat import block, formats

    info = getattr(formats, f"format_info_mxfp{ELEMENTS[element].bits}_{element}")

    def scale(_: float, values: np.ndarray) -> float:
        return float(2.0 ** shared_exponent(Fraction(float(np.abs(values).max())), element, rule))

    compute = block.compute_scale_amax if rule == "floor" else scale
    for kind in ("random", "bf16", "tiny", "edges", "ties", "subnormal", "zeros"):
        x = split(operand(kind, ELEMENTS[element]))
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[:8]]
        expected = np.stack([gfloat.quantize_block(info, v, compute) for v in x.double().numpy()])
        assert np.array_equal(quantizer(element, rule).dequantized(x).double().numpy(), expected), kind


@elements
def test_the_bit_rule_of_rceil(element: str) -> None:
    """NVIDIA's float_to_e8m0(amax * fp32(1 / max)), from the float's own bits, gives the same exponents.

    e = exponent field, plus one if the mantissa is non-zero (below 2^-127: only above half of 2^-126).
    """
    fmt = ELEMENTS[element]
    x = torch.cat([split(operand(k, fmt)) for k in ("random", "tiny", "edges", "subnormal", "zeros")])
    ratio = (x.abs().amax(-1) * torch.tensor(1 / fmt.max)).view(torch.int32)
    field, mantissa = ratio >> 23, ratio & 0x7FFFFF
    field = field + ((mantissa > 0) & ~((field == 0) & (mantissa <= 0x400000))).int()
    expected = torch.ldexp(torch.ones(len(field), dtype=torch.float64), field - 127)
    decode = quantizer(element, "rceil").trace(x).factors.decode.flatten()
    assert torch.equal(decode.double(), expected)


@elements
def test_halves_away_from_zero_are_gfloats(element: str) -> None:
    """The MX library's default rounding, with OCP floor scales, on ties and BF16 values."""
    gfloat = pytest.importorskip("gfloat")
    from gfloat import block, formats

    info = getattr(formats, f"format_info_mxfp{ELEMENTS[element].bits}_{element}")
    q = replace(quantizer(element, "floor"), rounding=NearestAway())
    for kind in ("random", "bf16", "ties"):
        x = split(operand(kind, ELEMENTS[element]))[:16]
        away = gfloat.RoundMode.TiesToAway
        expected = [gfloat.quantize_block(info, v, block.compute_scale_amax, away) for v in x.double().numpy()]
        assert np.array_equal(q.dequantized(x).double().numpy(), np.stack(expected)), kind


def test_mxint8_is_gfloats() -> None:
    """Named difference: two's complement has -128 too, so -amax just below a power of two goes there; ours is -127."""
    gfloat = pytest.importorskip("gfloat")
    from gfloat import block, formats

    int8 = ELEMENTS["int8"]
    q = BlockQuantizer(int8, E8M0, 32, constant=64.0, scale_rounding=TowardZero())
    x = torch.cat([split(operand(kind, int8))[:40] for kind in ("random", "bf16", "tiny", "ties", "zeros", "edges")])
    info = formats.format_info_mxint8
    expected = np.stack([gfloat.quantize_block(info, v, block.compute_scale_amax) for v in x.double().numpy()])
    found = q.dequantized(x).double().numpy()
    differ = found != expected
    assert differ.mean() < 0.02
    assert np.array_equal(found[differ] * 128, expected[differ] * 127)
    assert (expected[differ] < 0).all()
