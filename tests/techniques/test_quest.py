"""QuEST's statistic, about zero and about the mean, against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import pytest
import torch
from torch import Tensor

from dse.numerics.techniques.statistics import Quest
from dse.recipes import RECIPES


def exact(x: list[float], clip: float, centered: bool) -> float:
    """Z in exact arithmetic, but for the root's 40 digits."""
    values = [Fraction(v) for v in x]
    mean = sum(values) / len(values) if centered else Fraction(0)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    root = Fraction(isqrt(int(variance * 10**80)), 10**40)
    return float(Fraction(clip) * root)


@pytest.mark.parametrize("centered", [False, True])
def test_deviation_of_a_block(centered: bool) -> None:
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)) + torch.linspace(-3, 3, 64)[:, None]
    z = Quest(centered=centered).value(x, (-1,))[:, 0]
    for row, found in zip(x.tolist(), z.tolist(), strict=True):
        assert found == pytest.approx(exact(row, Quest().clip, centered), rel=3e-5)


@pytest.mark.parametrize("size", [1, 2, 32, 1024])
def test_a_constant_block_has_its_root_mean_square(size: int) -> None:
    """Its deviation is zero, and rounding's own; either way the block would be lost."""
    x = torch.tensor([1.0, -0.3, 1e-12, 3e12, 0.0])[:, None].expand(-1, size)
    for statistic in (Quest(), Quest(centered=True)):
        torch.testing.assert_close(statistic.value(x, (-1,)), statistic.clip * x[:, :1].abs() + 6e-8, rtol=1e-6, atol=0)
        slope: Tensor = statistic.slope(x, statistic.value(x, (-1,)), (-1,))
        torch.testing.assert_close(slope, statistic.clip * x.sign() / size, rtol=1e-5, atol=0)


def test_quartet_subtracts_the_mean_as_its_kernels_do() -> None:
    fprop = RECIPES["quartet"].fprop
    assert [q.statistic for q in (fprop.lhs, fprop.rhs)] == [Quest(centered=True)] * 2  # type: ignore[attr-defined]
