"""Reports of many configurations: what figures draw, and tables and ranks that stay what they were."""

from __future__ import annotations

import math
import re
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dse.report import write_report
from dse.report.analysis import rank_correlation
from dse.report.analysis.configs import ALL, pareto_front, task_front
from dse.report.analysis.task_ranking import TaskRanking, decided_differences
from dse.report.csv_files import write_latex
from dse.report.figures.thinning import MOST_POINTS, drawn_configs
from dse.stats import CONFIDENCE
from tests.report.ten_thousand import SEED, ten_thousand


def configs_of(count: int) -> pd.DataFrame:
    """Rows of two tasks and of all, with the fronts that they have."""
    seed = 11
    print("seed", seed)
    random = np.random.default_rng(seed)
    cost = random.choice(np.linspace(1, 9, 17), count)
    gaps = {task: random.exponential(1.0, count) / cost for task in ("a", "b")}
    rows = []
    for task in ("a", "b", ALL):
        own = gaps[task] if task != ALL else (gaps["a"] + gaps["b"]) / 2
        front = pareto_front(list(cost), list(own))
        rows += [
            {
                "task": task, "config": f"r{i % 5} x={i}", "recipe": f"r{i % 5}", "overhead": cost[i],
                "gap_mean": own[i], "lost_mean": own[i], "front": front[i], "front_time": front[i],
                "named": i == 7, "narrow": True, "eligible": True,
            }
            for i in range(count)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def test_thinning_keeps_fronts_named_recipes_and_the_spread() -> None:
    tasks = ["a", "b"]
    few = configs_of(300)
    assert drawn_configs(few, tasks, 4) == set(few["config"])
    many = configs_of(5000)
    drawn = drawn_configs(many, tasks, 4)
    assert MOST_POINTS // 4 - 60 < len(drawn) <= MOST_POINTS // 4 + 5
    assert "r2 x=7" in drawn
    for task in tasks:
        rows = many[many["task"] == task]
        shown = rows[rows["config"].isin(drawn)]
        assert set(rows["config"][task_front(rows)]) == set(shown["config"][task_front(shown)]), task
    overall = many[many["task"] == ALL]
    assert set(overall["config"][overall["front"]]) <= drawn
    quartiles = overall["lost_mean"].quantile([0.25, 0.5, 0.75])
    thinned = overall[overall["config"].isin(drawn)]["lost_mean"].quantile([0.25, 0.5, 0.75])
    np.testing.assert_allclose(thinned, quartiles, rtol=0.2)


def test_latex_is_that_of_pandas(tmp_path: Path) -> None:
    text = ["a_b & c", "~ x\\ y", "{5 %}^2 $#", "", None, "plain"]
    frame = pd.DataFrame({"n_a": range(6), "v": [1.0, math.nan, 1e-9, 123456.0, -2.5, math.inf], "t": text})
    write_latex(frame, tmp_path / "x.tex")
    shown = frame.assign(v=[f"{v:.4g}" if v == v else "" for v in frame["v"]])
    expected = shown.astype({"n_a": str}).to_latex(index=False, escape=True, longtable=True)
    assert (tmp_path / "x.tex").read_text(encoding="utf-8") == expected


def test_kendall_of_many_is_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    a, b = random.integers(0, 20, (2, 6, 40)).astype(float)
    a[0, :3], b[1] = math.inf, 1.0
    pairwise = rank_correlation.kendall(a, b)
    monkeypatch.setattr(rank_correlation, "_MOST_SIGNS", 0)
    np.testing.assert_allclose(rank_correlation.kendall(a, b), pairwise, atol=1e-12)
    assert np.isnan(pairwise[1])
    assert rank_correlation.kendall(a[2], b[2]).shape == ()


def test_decided_differences_are_those_of_each_pair_by_itself() -> None:
    """Against the definition, pair by pair, in plain Python."""
    random = np.random.default_rng(9)
    gaps = random.normal(0, 0.02, (3, 8)) + np.arange(8) * 0.02
    gaps[0, 1], gaps[1, 2], gaps[:, 6] = math.nan, math.inf, math.inf
    names = [f"c{i}" for i in range(8)]
    pairs, spread, df = {}, 0.0, 0
    for i, j in combinations(range(8), 2):
        own = [float(b - a) for a, b in gaps[:, [i, j]] if math.isfinite(a) and math.isfinite(b)]
        pairs[i, j] = own
        if own:
            spread += sum((x - sum(own) / len(own)) ** 2 for x in own)
            df += len(own) - 1
    limit = stats.t.ppf((1 + CONFIDENCE) / 2, df * 2 // 8) * math.sqrt(spread / df)
    found = decided_differences(TaskRanking("t", names, gaps, 1.0, ""), names)
    decided = 0
    for (i, j), own in pairs.items():
        gone = [bool(np.isinf(gaps[:, k]).any()) for k in (i, j)]
        if any(gone):
            expected = 0.0 if all(gone) else math.inf if gone[1] else -math.inf
        else:
            mean = sum(own) / len(own)
            expected = mean if abs(mean) > limit / math.sqrt(len(own)) else 0.0
        assert found[i, j] == pytest.approx(expected), (i, j)
        decided += expected != 0.0
    assert 5 < decided < 28
    assert not np.tril(found).any()


@pytest.mark.slow
def test_the_page_of_ten_thousand_trials(tmp_path: Path) -> None:
    """Under 2 MB, with every figure and table; every point of a figure tells what it is."""
    print("seed", SEED)
    sweep, records = ten_thousand(tmp_path)
    assert len(records) == len({record.uid for record in records}) > 10_000
    began = time.process_time()
    page = write_report(sweep, records, tmp_path / "out")
    size = page.stat().st_size
    print(f"{len(records):,} trials: {size / 1e6:.2f} MB, {time.process_time() - began:.0f} s of processor")
    assert size < 2_000_000
    html = page.read_text(encoding="utf-8")
    for section in ("pareto", "configurations", "effects", "interactions", "learned", "curves", "problems"):
        assert f'<section id="{section}">' in html, section
    points = html.count('<g class="pt" ')
    assert 1000 < points <= MOST_POINTS * 1.2
    assert points == len(re.findall(r'<g class="pt" data-c="\d+" tabindex="0"><title>[^<]', html))
    assert html.count('<g class="said" ') == len(re.findall(r'<g class="said" tabindex="0"><title>[^<]', html)) > 50
    with (tmp_path / "out" / "ten-thousand" / "trials.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == len(records) + 1
