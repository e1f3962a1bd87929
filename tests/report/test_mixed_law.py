"""The law of mixed quantization, recovered from numbers that were made by it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from dse.report.analysis.mixed_law import Bounded, MixedPoints, fit_mixed_law

TRUE = {"constant": 0.02, "share": 2.5, "size": 0.3, "block": 0.45, "offset": 8.0}
SIZES, SHARES, BLOCKS = (1e5, 1e6, 1e7), (0.2, 0.5, 0.8, 1.0), (4, 16, 64, 256)


def made(noise: float = 0.0, seeds: int = 1, seed: int = 0, **axes: tuple[float, ...]) -> MixedPoints:
    """Increases by the law, each seed's times a factor of its own and one of each configuration's."""
    draw = np.random.default_rng(seed)
    grid = product(axes.get("sizes", SIZES), axes.get("shares", SHARES), axes.get("blocks", BLOCKS))
    size, share, block = np.array(list(grid), float).T
    exact = TRUE["constant"] * np.exp(TRUE["share"] * share) * size ** -TRUE["size"]
    exact = exact * (block + TRUE["offset"]) ** TRUE["block"]
    factors = np.exp(noise * draw.standard_normal((len(exact), seeds))) * np.exp(noise * draw.standard_normal(seeds))
    return MixedPoints(size, share, block, exact[:, None] * factors)


def test_exact_numbers_give_the_law_back() -> None:
    law = fit_mixed_law(made())
    for name, value in TRUE.items():
        found = getattr(law, name)
        assert found.value == pytest.approx(value, rel=1e-9), name
        assert np.isnan(found.low)
    assert (law.points, law.left_out) == (48, 0)
    assert law.spread < 1e-9
    points = made()
    assert law(points.size[5], points.share[5], points.block[5]) == pytest.approx(points.increase[5, 0], rel=1e-9)


def test_intervals_cover_the_truth() -> None:
    covered = dict.fromkeys(TRUE, 0)
    for seed in range(12):
        law = fit_mixed_law(made(0.1, 10, seed))
        for name, value in TRUE.items():
            own: Bounded = getattr(law, name)
            assert own.low <= own.value <= own.high
            covered[name] += own.low <= value <= own.high
    assert min(covered.values()) >= 8, covered  # of 12; 95 % by ten seeds are nearer to 90 %
    assert law.spread < 0.1


def test_what_a_sweep_cannot_tell_is_left_out() -> None:
    law = fit_mixed_law(made(sizes=(1e6,), blocks=(16, 64)))
    assert law.size is None
    assert law.offset is None
    assert law.block is not None
    assert law.share.value == pytest.approx(TRUE["share"])
    slope = TRUE["block"] * np.log((64 + 8) / (16 + 8)) / np.log(4)
    assert law.block.value == pytest.approx(slope)
    assert fit_mixed_law(made(sizes=(1e6,), blocks=(16,))).block is None
    for axes, text in (
        ({"shares": (0.5,)}, "does not vary"),
        ({"shares": (0.5, 1.0), "sizes": (1e6,), "blocks": (16,)}, "2 configurations .* 2 parameters"),
    ):
        with pytest.raises(ValueError, match=text):
            fit_mixed_law(made(**axes))  # type: ignore[arg-type]
    points = made(sizes=(1e6,), blocks=(16,))
    together = MixedPoints(np.exp(points.share), points.share, points.block, points.increase)
    with pytest.raises(ValueError, match="vary together"):
        fit_mixed_law(together)


def test_increases_that_are_not_positive_and_seeds_that_are_unknown() -> None:
    points = made(0.05, 4)
    increase = points.increase.copy()
    increase[0] = -increase[0]
    increase[7, 2] = np.nan
    law = fit_mixed_law(MixedPoints(points.size, points.share, points.block, increase))
    assert (law.points, law.left_out) == (47, 1)
    assert law.share.value == pytest.approx(TRUE["share"], rel=0.1)
    assert law == fit_mixed_law(MixedPoints(points.size, points.share, points.block, increase))
