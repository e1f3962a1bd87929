"""``dse.kernels.exp_log``: nearly correctly rounded, the same bits wherever an element lies and in Triton."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from dse.kernels.exp_log import EXP_HIGH, exp, log
from tests.interpreted import interpreted

LIMIT = 0.50003
"""Units in the last place: a half, and 2^24 times the polynomials' relative error."""


def error(found: Tensor, exact: np.ndarray) -> float:
    """The largest distance from numbers of more digits, in units of the last place of float32 there."""
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    return float((np.abs(found.numpy().astype(exact.dtype) - exact) / np.spacing(np.abs(nearest))).max())


def test_both_are_within_half_a_unit_in_the_last_place() -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    g = torch.Generator().manual_seed(seed)
    near = torch.randn(200_000, generator=g)
    x = torch.cat([torch.rand(200_000, generator=g) * 192 - 103.9, near, near * 1e-4])
    x = x[x <= EXP_HIGH]
    assert error(exp(x), np.exp(x.numpy().astype(np.longdouble))) < LIMIT
    x = torch.randint(1, 0x7F800000, (200_000,), generator=g, dtype=torch.int32).view(torch.float32)
    x = torch.cat([x, 1 + near * 1e-3, near[near != 0].abs()])  # the logarithm of 0 has no last place
    assert error(log(x), np.log(x.numpy().astype(np.longdouble))) < LIMIT


def test_special_values() -> None:
    x = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, EXP_HIGH, 88.72284, -103.9, -104.0])
    e, least = exp(x), 2.0**-149
    assert e[[0, 1, 2, 3, 6, 7, 8]].tolist() == [1, 1, math.inf, 0, math.inf, least, 0]
    assert e[4].isnan()
    assert e[5].isfinite()
    x = torch.tensor([0.0, -0.0, math.inf, 1.0, -math.inf, math.nan, -1.0, -least])
    assert log(x)[:4].tolist() == [-math.inf, -math.inf, math.inf, 0]
    assert log(x)[4:].isnan().all()
    assert log(torch.tensor(least)).item() == pytest.approx(-149 * math.log(2))
    with pytest.raises(TypeError, match="float32 or float64"):
        exp(torch.ones(1, dtype=torch.bfloat16))


def test_an_element_has_the_same_bits_wherever_it_lies() -> None:
    x = torch.randn(40_000, generator=torch.Generator().manual_seed(0)).abs()  # several chunks
    for f in (exp, log):
        y = f(x)
        assert torch.equal(f(x[3:]), y[3:])
        assert torch.equal(f(x.view(200, 200).mT), y.view(200, 200).mT)
        assert torch.equal(torch.vmap(f)(x.view(200, 200)), y.view(200, 200))
        assert torch.equal(f(x.double()).float(), getattr(torch, f.__name__)(x.double()).float())


PROGRAM = """
import torch, triton, triton.language as tl
from dse.kernels import exp_log
from dse.kernels.device.exp_log import exp, log

@triton.jit
def both(x, y, z, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(x + at)
    tl.store(y + at, exp(v))
    tl.store(z + at, log(v))

g = torch.Generator().manual_seed({seed})
bits = torch.randint(-2**31, 2**31 - 1, (4096,), generator=g).to(torch.int32).view(torch.float32)
special = torch.tensor([0.0, -0.0, inf, -inf, nan, 1.0, -1.0, 1e-45, -103.9, -104.1, 88.72283, 88.72284] + [1e-40] * 4)
x = torch.cat([bits, torch.randn(4080, generator=g) * 40, special])
y, z = torch.empty_like(x), torch.empty_like(x)
both[(2,)](x, y, z, 4096, enable_fp_fusion=False)
for name, found, wanted in (("exp", y, exp_log.exp(x)), ("log", z, exp_log.log(x))):
    wrong = (found.view(torch.int32) != wanted.view(torch.int32)) & ~(found.isnan() & wanted.isnan())
    assert not wrong.any(), (name, x[wrong][:3], found[wrong][:3], wanted[wrong][:3])
"""


def test_the_device_code_gives_the_same_bits() -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    pytest.importorskip("triton")
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    interpreted("-c", "from math import inf, nan\n" + PROGRAM.format(seed=seed))
