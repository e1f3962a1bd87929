"""The published slopes: derivatives of their own smoothed quantizers, their means, and the papers' golden values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, ELEMENTS, FP32, SCALES, Format
from dse.numerics.techniques.rounding import TowardZero
from dse.numerics.techniques.slopes import DGE, SLOPES, Sigmoid, Slope, Spline, StraightThrough
from dse.numerics.techniques.statistics import Quest
from tests.gradients.stairs import PAIRS, PowerStair, SigmoidStair, SplineStair, Stair

FORMATS = [*ELEMENTS.values(), *(SCALES[s] for s in ("e8m0", "ue4m3", "ue5m3", "ue5m2"))]
STEPS = [0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 2.0]
"""Intervals of E2M1's non-negative values 0, .5, 1, 1.5, 2, 3, 4, 6."""


def points(fmt: Format, per_interval: int = 7) -> Tensor:
    """Points inside every interval of the format's upper 30 binades, not on edges or centers; with both signs."""
    grid = fmt.grid[fmt.grid > 2.0**-30 * fmt.max]
    t = (torch.arange(per_interval, dtype=torch.float64) + 0.27) / per_interval
    u = (grid[:-1, None] + grid.diff()[:, None] * t).flatten()
    u = u[u > 0]
    return torch.cat([u, -u]) if fmt.signed else u


def numerical(stair: Stair, u: Tensor, fmt: Format) -> Tensor:
    """The stair's derivative by fourth-order differences, the step a share of the distance between kinks."""
    h = 1e-4 * stair.span(u, fmt)
    near, far = (stair.value(u + k * h, fmt) - stair.value(u - k * h, fmt) for k in (1, 2))
    return (8 * near - far) / (12 * h)


SURROGATES: dict[str, tuple[Stair, Slope]] = {
    **{name: pair for name, pair in PAIRS.items() if name != "wave"},
    "dge, k = 3": (PowerStair(k=3.0), DGE(3.0, upper=math.inf)),
    "dge, k = 1": (PowerStair(k=1.0), DGE(1.0)),
    "dge, not normalized": (PowerStair(normalized=False), DGE(normalized=False, upper=math.inf)),
    "sigmoid, T = 2": (SigmoidStair(temperature=2.0), Sigmoid(2.0)),
    "spline, 64 points": (SplineStair(points=64), Spline(64)),
}


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("name", SURROGATES)
def test_a_slope_is_the_derivative_of_its_smoothed_quantizer(name: str, fmt: Format) -> None:
    """In every interval of every format, both signs: within 1e-6 of the larger of slope and 1."""
    stair, slope = SURROGATES[name]
    u = points(fmt)
    u = u[stair.room(u, fmt) > 1e-3]
    expected, found = numerical(stair, u, fmt), slope(u, fmt)
    assert len(u) > 6
    assert ((found - expected).abs() <= 1e-6 * expected.abs().clamp_min(1)).all()


def test_every_registered_slope_was_looked_at() -> None:
    assert {type(slope) for _, slope in SURROGATES.values()} == set(SLOPES.values())


def test_dge_golden_vector() -> None:
    """The slopes that the authors' code gives for linspace(-6, 6, 20) in BF16, k = 5, clip 3."""
    half = [0.2002, 0.4375, 0.6055, 0.2168, 1.8359, 0.2695, 0.3027, 0.2695, 0.2402, 0.5781]
    u = torch.linspace(-6, 6, 20).bfloat16().float()
    torch.testing.assert_close(DGE()(u, E2M1), torch.tensor(half + half[::-1]), rtol=2**-8, atol=0)


def test_dge_is_clipped_at_the_center_of_an_interval() -> None:
    centers = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=torch.float64)
    assert DGE()(centers, E2M1).tolist() == [3.0] * 7
    assert (DGE(upper=math.inf)(centers, E2M1) > 1e30).all()
    assert DGE(lower=0.5)(E2M1.grid, E2M1).tolist() == [0.5] * 8  # at the edges the slope is 1/k


@pytest.mark.parametrize(
    ("slope", "expected"),
    [
        (DGE(upper=math.inf), [1.0] * 7),
        (Sigmoid(), [1.0] * 7),
        (Sigmoid(0.25), [1.0] * 7),
        (DGE(normalized=False, upper=math.inf), [(d / 2) ** 0.2 for d in STEPS]),  # .758, .871, 1.0
        (StraightThrough(), [1.0] * 7),
    ],
    ids=str,
)
def test_mean_slope_of_each_interval(slope: Slope, expected: list[float]) -> None:
    """Normalized staircases climb one step per interval; the un-normalized DGE's mean is (delta / 2)^(1/k)."""
    n = 1000
    s = torch.linspace(-1, 1, 2 * n + 1, dtype=torch.float64)[1::2]
    t, dt = 0.5 + 0.5 * s**5, 2.5 * s**4 * (2 / n)  # dense around the center, where DGE has its pole
    for low, step, mean in zip(E2M1.grid, STEPS, expected, strict=False):
        assert float((slope(low + step * t, E2M1) * dt).sum()) == pytest.approx(mean, rel=5e-4)
    assert [round((d / 2) ** 0.2, 2) for d in (0.5, 1.0, 2.0)] == [0.76, 0.87, 1.0]


def test_the_sigmoid_peaks_at_three_over_t() -> None:
    centers = torch.tensor([0.25, 2.5, 5.0], dtype=torch.float64)
    assert Sigmoid()(centers, E2M1).tolist() == [6.0] * 3
    assert Sigmoid(2.0)(centers, E2M1).tolist() == [1.5] * 3


def test_the_spline_of_e2m1() -> None:
    """With 40 points its slopes are 0, 1.625, 3.25 and 6.5, their mean is 1."""
    u = (torch.arange(39, dtype=torch.float64) + 0.5) * 12 / 39 - 6
    found = Spline()(u, E2M1)
    assert sorted({round(v, 9) for v in found.tolist()}) == [0.0, 1.625, 3.25, 6.5]
    assert float(found.mean()) == pytest.approx(1)
    assert torch.equal(found, found.flip(0))


@pytest.mark.parametrize("name", SLOPES)
def test_bounds_and_what_lies_outside(name: str) -> None:
    """Beyond the range 1 or 0; the largest value itself has its interval's slope, or 0 (the trust mask is |u| < 6)."""
    u = torch.tensor([-1e30, -6.001, -6.0, 6.0, 6.001, math.inf])
    at_max = {"straight_through": 1.0, "dge": 0.2, "sigmoid": Sigmoid()(torch.tensor([4.0]), E2M1), "spline": 0.0}[name]
    passed, zeroed = SLOPES[name]()(u, E2M1), SLOPES[name](outside="zero")(u, E2M1)  # type: ignore[call-arg]
    torch.testing.assert_close(passed, torch.tensor([1, 1, at_max, at_max, 1, 1]))
    assert not zeroed.any()
    if name != "straight_through":
        inside = torch.linspace(-5.99, 5.99, 1001)
        bounded = replace(SLOPES[name](), lower=0.5, upper=1.5)(inside, E2M1)  # type: ignore[call-arg]
        assert bounded.min() == 0.5
        assert bounded.max() == 1.5


def gaussian(n: int) -> Tensor:
    """A standard normal sample without noise: the centers of n equally likely bins, float64."""
    return Normal(0.0, 1.0).icdf((torch.arange(n, dtype=torch.float64) + 0.5) / n)


def error(q: BlockQuantizer, x: Tensor) -> float:
    """Relative mean squared error of one block."""
    return float((q.dequantized(x[None]) - x).square().mean() / x.square().mean())


def best_clip(fmt: Format, low: float, high: float) -> float:
    """The clip in units of sigma with the least error on a Gaussian block with an exact scale (golden section)."""
    x = gaussian(1 << 16)
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 2e-4:
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        ea, eb = (error(BlockQuantizer(fmt, FP32, block=0, statistic=Quest(c)), x) for c in (a, b))
        low, high = (low, b) if ea < eb else (a, high)
    return (low + high) / 2


def test_quests_clip_for_e2m1_is_the_gaussian_optimum() -> None:
    """Step .487079 sigma (2.92247856 / 6 in the code) and relative error .012685 with an exact scale."""
    assert Quest().clip / 6 == pytest.approx(0.487080, abs=1e-6)
    assert best_clip(E2M1, 2.0, 4.0) / 6 == pytest.approx(0.487079, abs=5e-4)
    q = BlockQuantizer(E2M1, FP32, block=0, statistic=Quest())
    assert error(q, gaussian(1 << 16)) == pytest.approx(0.012685, abs=2e-5)


def test_quests_table_of_uniform_clips() -> None:
    """2^b uniform levels: .7979, 1.4935, 2.0511, 2.5139 ... 3.8849 sigma for 1 to 8 bits.

    From 6 bits on the published clip lies up to 1 % below the optimum, which costs at most 0.2 % of the error. The last
    one is also the clip of INT8's 255 levels; INT4's 15 levels lie between 3 and 4 bits.
    """
    x = gaussian(1 << 16)
    table = [0.7979, 1.4935, 2.0511, 2.5139, 2.9161, 3.2766, 3.6010, 3.8849]
    for bits, clip in enumerate(table, 1):

        def uniform(c: float, levels: int = 2**bits) -> float:
            step = 2 * c / (levels - 1)
            q = ((x + c) / step).round().clamp(0, levels - 1) * step - c
            return float((q - x).square().mean())

        best = min(uniform(clip * (1 + 0.001 * k)) for k in range(-15, 16))
        assert uniform(clip) <= best * (1 + (1e-5 if bits < 6 else 2e-3))
    assert best_clip(ELEMENTS["int8"], 3.0, 5.0) == pytest.approx(table[7], rel=0.015)
    assert table[2] < best_clip(ELEMENTS["int4"], 1.5, 3.5) < table[3]


def test_the_trust_mask_stops_what_saturates() -> None:
    """Quartet: the gradient passes where |x / s| < 6, s a power of two below 2.92247856 sigma / 6, and nowhere else."""
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    q = BlockQuantizer(scale_rounding=TowardZero(), statistic=Quest(), slope=StraightThrough("zero"), constant=None)
    blocks = x.view(4, 2, 32)
    s = 2.0 ** (2.92247856 / 6 * blocks.std(-1, unbiased=False, keepdim=True) + 1e-8).log2().floor()
    mask = (blocks / s).abs() < 6
    assert 0 < int((~mask).sum()) < 40
    assert torch.equal(q.vjp(x, torch.ones_like(x)).view(4, 2, 32), mask.float())
