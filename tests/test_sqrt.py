"""``dse.kernels.sqrt`` is the exact root, rounded once: judged in whole numbers."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from dse.kernels.sqrt import sqrt

BITS = {torch.float32: (24, -149), torch.float64: (53, -1074)}
SPECIAL = [0.0, -0.0, 1.0, 4.0, math.inf, -math.inf, math.nan, -1.0, 1e-45, 3e-45, 1.1754942e-38, 3.4028235e38]


def exact(x: float, dtype: torch.dtype) -> float:
    """The root of x > 0, a normal number of the format, to nearest: a tie is impossible."""
    bits, _ = BITS[dtype]
    n, d = x.as_integer_ratio()
    power = (math.frexp(x)[1] + 1) // 2 - bits  # of two: the root's last place, or a finer one
    scaled = Fraction(n, d) / Fraction(4) ** power
    root = math.isqrt(scaled.numerator // scaled.denominator)
    while root.bit_length() < bits:  # one place finer until the integer holds all bits of the root
        power -= 1
        scaled *= 4
        root = math.isqrt(scaled.numerator // scaled.denominator)
    assert root.bit_length() == bits
    up = Fraction(2 * root + 1, 2) ** 2 < scaled
    return math.ldexp(root + up, power)


@pytest.mark.parametrize("dtype", BITS, ids=str)
def test_it_is_the_exact_root_rounded_once(dtype: torch.dtype) -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    generator = random.Random(seed)
    bits, least = BITS[dtype]
    top = -least - 2 * bits
    values = [math.ldexp(generator.getrandbits(bits) | 1, generator.randrange(least, top)) for _ in range(2000)]
    values += [math.ldexp(n, least) for n in (1, 2, 3, 5, 2 ** (bits - 1) - 1)]  # subnormal numbers
    values += [math.ldexp(n * n, -8) for n in (1, 3, 2**11 - 1)]
    values += [math.ldexp(2**bits - 1, 0), math.ldexp(2 ** (bits - 1) + 1, 0)]  # next to a power of two
    x = torch.tensor(values, dtype=dtype)
    assert x.tolist() == values
    expected = [exact(value, dtype) for value in values]
    assert sqrt(x).tolist() == expected
    assert sqrt(x.clone(), out=(into := torch.empty_like(x))).tolist() == expected
    assert into.tolist() == expected
    strided = torch.stack([x, x], 1)[:, 1]
    assert sqrt(strided, out=strided).tolist() == expected
    if dtype == torch.float32:
        assert torch.vmap(sqrt)(x).tolist() == expected
        assert sqrt(x.clone().requires_grad_()).tolist() == expected


def test_every_mantissa_on_the_way_through_float64() -> None:
    """Under transforms and autograd: all numbers in [1, 4), which the exponent only moves."""
    for start in range(0, 2**24, 2**20):
        x = torch.arange(start, start + 2**20, dtype=torch.int32).add_(0x3F80_0000).view(torch.float32)
        assert torch.equal(torch.vmap(sqrt)(x), sqrt(x))
    assert x[-1].item() == 4 - 2**-22


def test_special_values() -> None:
    x = torch.tensor(SPECIAL)
    for y in (sqrt(x), torch.vmap(sqrt)(x)):
        assert bits(y[:6]) == bits(torch.tensor([0.0, -0.0, 1.0, 2.0, math.inf, math.nan]))
        assert y[6:8].isnan().all()
    assert sqrt(torch.tensor([4.0], dtype=torch.bfloat16)).item() == 2


def test_the_derivative() -> None:
    x = torch.tensor([0.25, 9.0], requires_grad=True)
    sqrt(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([1.0, 1 / 6])


def bits(x: Tensor) -> list[object]:
    """Numbers with their sign; a NaN is a NaN."""
    return ["nan" if math.isnan(value) else (value, math.copysign(1, value)) for value in x.tolist()]
