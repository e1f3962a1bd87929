"""Estimates against scipy and hand-computed values."""

import doctest
import math
import random

import pytest
from scipy import stats as scipy_stats

from dse import number_format as numbers
from dse.report import output_paths
from dse.report.analysis import configs as pareto
from dse.stats import NO_ESTIMATE, combine, estimate, holm

SAMPLES = [[0.1, 0.2, 0.4], [1.0, 1.5], [-3.0, 2.0, 5.0, 8.0], [0.021, 0.019, 0.0235, 0.02, 0.0184]]


@pytest.mark.parametrize("values", SAMPLES)
def test_estimate_is_the_one_sample_t_interval(values: list[float]) -> None:
    mine, test = estimate(values), scipy_stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(0.95)
    assert (mine.low, mine.high) == pytest.approx((low, high), rel=1e-12)
    assert mine.p == pytest.approx(test.pvalue, rel=1e-9)
    assert mine.excludes_zero == (low > 0 or high < 0)
    assert mine.n == len(values)


def test_an_interval_by_hand() -> None:
    mine = estimate([1.0, 2.0, 3.0])  # sd 1, t(0.975, 2) = 4.302653
    assert mine.mean == 2.0
    assert mine.half == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert not mine.excludes_zero


def test_a_single_value_has_no_interval() -> None:
    mine = estimate([0.3])
    assert (mine.mean, mine.n) == (0.3, 1)
    assert math.isnan(mine.half)
    assert math.isnan(mine.p)
    assert not mine.excludes_zero


def test_unknown_values_are_left_out_and_nothing_stays_nothing() -> None:
    assert estimate([1.0, math.nan, 3.0, math.inf]) == estimate([1.0, 3.0])
    assert estimate([math.nan]).n == 0
    assert math.isnan(estimate([]).mean)


def test_values_without_spread() -> None:
    assert (estimate([2.0, 2.0]).half, estimate([2.0, 2.0]).p) == (0.0, 0.0)
    assert estimate([2.0, 2.0]).excludes_zero
    assert estimate([0.0, 0.0]).p == 1.0
    assert not estimate([0.0, 0.0]).excludes_zero


@pytest.mark.parametrize(("a", "b"), [(SAMPLES[0], SAMPLES[2]), (SAMPLES[3], SAMPLES[1]), (SAMPLES[0], SAMPLES[3])])
def test_the_mean_of_two_tasks_has_welchs_test(a: list[float], b: list[float]) -> None:
    mine = combine([estimate(a), estimate([-v for v in b])])  # half the difference of the means
    welch = scipy_stats.ttest_ind(a, b, equal_var=False)
    assert mine.mean == pytest.approx((sum(a) / len(a) - sum(b) / len(b)) / 2)
    assert mine.df == pytest.approx(welch.df)
    assert mine.p == pytest.approx(welch.pvalue)
    assert mine.low * 2 == pytest.approx(welch.confidence_interval(0.95).low)


def test_a_mean_over_tasks_is_only_as_known_as_its_tasks() -> None:
    two, one = estimate([1.0, 2.0]), estimate([4.0])
    assert combine([two, NO_ESTIMATE]) == NO_ESTIMATE
    assert combine([]) == NO_ESTIMATE
    mixed = combine([two, one])
    assert (mixed.mean, mixed.n) == (2.75, 1)
    assert math.isnan(mixed.half)
    assert combine([two]).half == pytest.approx(two.half)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    known = holm([0.01, math.nan, 0.04])
    assert known[0::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(known[1])


def test_holm_rejects_as_its_step_down_procedure_does() -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    draw = random.Random(seed)
    for _ in range(200):
        p = [draw.random() ** 4 for _ in range(draw.randint(1, 9))]
        rejected = set()
        for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[i] > 0.05 / (len(p) - rank):
                break
            rejected.add(i)
        assert {i for i, q in enumerate(holm(p)) if q <= 0.05} == rejected


def test_the_front_is_what_nothing_dominates() -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    draw = random.Random(seed)
    for _ in range(300):
        n, levels = draw.randint(0, 14), draw.choice([3, 1000])
        x, y = ([draw.randrange(levels) / levels for _ in range(n)] for _ in range(2))
        if n > 2 and draw.random() < 0.3:
            y[1] = math.nan
        expected = [
            not math.isnan(y[i])
            and not any(x[j] <= x[i] and y[j] <= y[i] and (x[j], y[j]) != (x[i], y[i]) for j in range(n))
            for i in range(n)
        ]
        assert pareto.pareto_front(x, y) == expected


@pytest.mark.parametrize("module", [numbers, pareto, output_paths])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.0, 0.0, "0 ± 0"),
        (-0.00001, 0.004, "0.0000 ± 0.0040"),
        (1234.5, 100.0, "1,234 ± 100"),
        (3e-9, 1e-9, "3.00e−09 ± 1.0e-09"),
        (math.nan, 1.0, "–"),
        (-0.5, math.nan, "−0.500"),
    ],
)
def test_intervals_in_text(mean: float, half: float, text: str) -> None:
    assert numbers.interval(mean, half).replace("\u00a0", " ") == text
