"""Differences of differences by hand, shares of the variance, and intervals that cover what they say."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.report.analysis.interactions import interactions
from dse.report.analysis.variance_shares import shares
from dse.report.sections.interaction_rows import interaction_map
from dse.stats import Estimate, across, combine, estimate, holm
from tests.report.studies import table_of

GRID = """
    tasks: [lm, regression]
    recipes: [mxfp4, nvfp4_plain]
    seeds: 3
    grid: {G.rounding: [nearest_even, stochastic], '*.block': [16, 32]}
"""


def rule(at: Mapping[str, Any]) -> float:
    """Stochastic rounding helps by 0.02 in blocks of 16, and by 0.01 (3 + seed) more in blocks of 32; on lm twice."""
    if at["recipe"] == "bf16":
        return 1.0
    helps = 0.02 + (0.01 * (3 + at["seed"]) if at.get("*.block") == 32 else 0.0)
    gap = 0.2 + 0.001 * at.get("*.block", 0) - (helps if at.get("G.rounding") == "stochastic" else 0.0)
    return 1.0 + gap * (2 if at["task"] == "lm" else 1)


def test_differences_of_differences_by_hand(tmp_path: Path) -> None:
    found = interactions(table_of(tmp_path, GRID, rule))
    assert {(one.axis, one.other) for one in found} == {
        *product(["G.rounding"], ["recipe", "*.block"]),
        *product(["*.block"], ["recipe", "G.rounding"]),
    }
    by = {(one.axis, one.other, one.level): one for one in found}
    small, large = by["G.rounding", "*.block", "16"], by["G.rounding", "*.block", "32"]
    assert small.interaction is None
    assert small.effect.mean == pytest.approx(-0.03)  # the mean of 0.04 and 0.02
    per_task = [estimate([-0.01 * k * (3 + seed) for seed in range(3)]) for k in (2, 1)]
    assert large.interaction is not None
    assert large.interaction.mean == pytest.approx(combine(per_task).mean)
    assert large.interaction.half == pytest.approx(combine(per_task).half)
    assert (large.pairs, large.against, large.interaction.n) == (12, "16", 3)
    same = by["*.block", "G.rounding", "stochastic"].interaction
    assert same is not None
    assert same.mean == pytest.approx(large.interaction.mean), "it is the same in the other order"
    none = by["G.rounding", "recipe", "nvfp4_plain"].interaction
    assert none is not None
    assert none.mean == pytest.approx(0.0, abs=1e-12)
    tests = [by["G.rounding", "recipe", "nvfp4_plain"], by["*.block", "recipe", "nvfp4_plain"], large]
    expected = holm([one.interaction.p for one in tests if one.interaction])
    assert [one.p_holm for one in tests] == pytest.approx(expected), "an unordered pair is tested once"


def test_the_heat_map(tmp_path: Path) -> None:
    shown = interaction_map(interactions(table_of(tmp_path, GRID, rule)))
    assert shown is not None
    assert shown.heads == [("recipe", 2), ("*.block", 2), ("G.rounding", 2)]
    assert [name for name, _ in shown.rows] == [
        "G.rounding = stochastic instead of nearest_even",
        "*.block = 32 instead of 16",
    ]
    assert [cell is None for cell in shown.rows[0][1]] == [False] * 4 + [True] * 2
    assert shown.sentences[0].startswith("G.rounding = stochastic instead of nearest_even changes")
    assert "where *.block = 32" in shown.sentences[0]
    assert interaction_map(interactions(table_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 2\n", rule))) is None


def test_shares_of_the_variance_of_a_known_function() -> None:
    """3 a + b + 2 ab on a full grid of ±1: variances 9, 1 and 4 of 14."""
    grid = list(product((-1, 1), (-1, 1), range(4)))
    levels: dict[str, list[str | float]] = {
        "a": [str(a) for a, _, _ in grid],
        "b": [str(b) for _, b, _ in grid],
        "c": [str(c) for *_, c in grid],
    }
    found = shares(levels, [3.0 * a + b + 2 * a * b for a, b, _ in grid])
    assert found is not None
    assert list(found.first) == ["a", "b", "c"]
    assert found.first["a"] == pytest.approx(9 / 14, abs=0.08)
    assert found.first["b"] == pytest.approx(1 / 14, abs=0.05)
    assert found.second["a", "b"] == pytest.approx(4 / 14, abs=0.08)
    assert found.second["a", "c"] < 0.05
    assert shares(levels, [1.0] * len(grid)) is None


@pytest.mark.parametrize("what", ["one task", "fixed tasks", "other tasks", "difference of differences"])
def test_95_percent_intervals_cover_93_to_97_percent(what: str) -> None:
    """Five seeds; four tasks whose own noises differ, and whose effects differ by 0.5 where they are a sample."""
    seed, trials = 20260102, 4000
    print("seed", seed)
    random = np.random.default_rng(seed)
    noise = np.array([0.5, 1.0, 1.5, 1.0])
    truth = np.array([0.3, -0.2, 0.5, 0.4])
    covered = 0
    for _ in range(trials):
        if what == "one task":
            found, true = estimate(random.normal(0.3, 1.0, 5)), 0.3
        elif what == "difference of differences":
            trial = random.normal(0.0, 1.0, (2, 2, 5)) + random.normal(
                0.0, 3.0, 5
            )  # what a seed's trials share cancels
            found, true = estimate((trial[0, 0] - trial[1, 0]) - (trial[0, 1] - trial[1, 1])), 0.0
        else:
            means = truth if what == "fixed tasks" else random.normal(0.25, 0.5, 4)
            strata = [estimate(random.normal(mean, sd, 5)) for mean, sd in zip(means, noise, strict=True)]
            found, true = (combine(strata), 0.25) if what == "fixed tasks" else (across(strata), 0.25)
        covered += found.low <= true <= found.high
    share = covered / trials
    print(f"{what}: {share:.4f}")
    assert 0.93 <= share <= 0.97


def test_across_needs_several_tasks() -> None:
    one = Estimate(0.1, 0.01, 4, 5)
    assert not across([one]).df > 0
    assert across([one, Estimate(0.3, 0.01, 4, 5)]).mean == pytest.approx(0.2)
