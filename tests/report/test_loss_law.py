"""Loss laws: recovered from synthetic losses and from published ones, intervals that cover, and what the page says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from dse.recipes import RECIPES
from dse.report import write_report
from dse.report.analysis.law_fits import LARGE, TOKENS_PER_PARAMETER, TaskLaw, extrapolated, task_law
from dse.report.analysis.law_points import GridPoint, LossGrid, large_enough, loss_grids
from dse.report.analysis.loss_law import EffectiveShares, LossLaw, fit_law, fit_shares
from dse.report.analysis.published_laws import QUARTET, QUARTET2, measured_gap, shares_of
from dse.report.analysis.tidy import tabulate
from dse.report.figures.law_panels import law_panels
from dse.report.figures.style import recipe_styles
from dse.report.findings.effective import effective_shares
from dse.report.page import _environment
from dse.report.sections.law_rows import law_frame, law_rows, size_name, warning
from dse.results.record import Record
from dse.sweep import Cell, Sweep
from dse.tasks import TASKS
from dse.tasks.lm import SIZES, LanguageModel
from dse.tasks.nets.llama import Llama
from tests.report import published_losses as published
from tests.report.studies import diverged, record, sweep_of

TRUE = LossLaw(A=30.0, a=0.3, B=60.0, b=0.3, E=0.9, g=0.8)
SHARES = {"bf16": (1.0, 1.0), "mxfp8": (1.0, 1.0), "mxfp4": (0.8, 0.85)}
POINTS = [GridPoint(n, n * k) for n in (94_208, 516_096, 1_003_520) for k in (2, 4, 8, 16)]
TEXT = """
    name: law
    tasks:
      - lm: {text: tinyshakespeare, size: tiny}
      - lm: {text: tinyshakespeare, size: 0.5M}
      - lm: {text: tinyshakespeare, size: 1M}
      - lm: {text: tinyshakespeare, size: nanogpt-cpu}
      - regression
    recipes: [mxfp4]
    seeds: 2
    grid: {training.steps: [100, 200, 400]}
"""


def grid_of(seed: int, seeds: int = 3, noise: float = 2e-3, paired: float = 5e-4) -> LossGrid:
    """The losses of TRUE and SHARES; the noise of a seed is shared by all recipes at a point, but for ``paired``."""
    random = np.random.default_rng(seed)
    grid = LossGrid("lm", "bf16", set(POINTS), recipes={name: RECIPES[name] for name in SHARES})
    shared = {(at, s): random.normal(0, noise) for at in POINTS for s in range(seeds)}
    for name, (n, d) in SHARES.items():
        grid.losses[name] = {
            at: {
                s: float(TRUE.loss(at.parameters * n, at.tokens * d))
                * math.exp(shared[at, s] + random.normal(0, paired))
                for s in range(seeds)
            }
            for at in POINTS
        }
    return grid


@pytest.fixture(scope="module")
def law() -> TaskLaw:
    seed = 7
    print("seed", seed)
    return task_law(grid_of(seed), draws=20)


def test_the_law_and_the_shares_are_recovered_exactly_without_noise() -> None:
    n, d = (np.array([getattr(at, name) for at in POINTS], float) for name in ("parameters", "tokens"))
    found = fit_law(n, d, TRUE.loss(n, d))
    np.testing.assert_allclose(found.loss(n, d), TRUE.loss(n, d), rtol=1e-7)
    np.testing.assert_allclose(list(vars(found).values()), list(vars(TRUE).values()), rtol=1e-3)
    own = EffectiveShares(0.7, 0.9)
    excess = np.log1p(own.excess(TRUE, n, d))
    np.testing.assert_allclose(list(vars(fit_shares(TRUE, n, d, excess)).values()), (0.7, 0.9), rtol=1e-4)
    above = np.log1p(EffectiveShares(0.8, 1.2).excess(TRUE, n, d))
    bounded, free = fit_shares(TRUE, n, d, above), fit_shares(TRUE, n, d, above, most=10)
    assert bounded.tokens == pytest.approx(1.0, abs=1e-6)
    assert bounded.parameters > 0.8
    np.testing.assert_allclose((free.parameters, free.tokens), (0.8, 1.2), rtol=1e-4)
    with pytest.raises(ValueError, match="5 points cannot decide 6"):
        fit_law(n[:5], d[:5], TRUE.loss(n, d)[:5])


def test_slopes_are_those_of_finite_differences() -> None:
    n, d, step = np.array([1e5, 1e6]), np.array([3e6, 2e7]), 1e-5
    ends = [
        [np.log(TRUE.loss(n * math.exp(sign * step * i), d * math.exp(sign * step * (1 - i)))) for sign in (1, -1)]
        for i in (1, 0)
    ]
    expected = np.stack([(up - down) / (2 * step) for up, down in ends], axis=-1)
    np.testing.assert_allclose(TRUE.slopes(n, d), expected, rtol=1e-6)


def test_published_losses_give_the_published_constants() -> None:
    n, d, bf16 = published.PARAMETERS, published.TOKENS, published.BF16
    assert np.mean(QUARTET.loss(n, d) / bf16 - 1) == pytest.approx(0.0025, abs=1e-4)
    found = fit_law(n, d, bf16, start=QUARTET)
    np.testing.assert_allclose(QUARTET2.loss(n, d), found.loss(n, d), rtol=2e-5)
    assert np.sqrt(np.mean(np.log(QUARTET2.loss(n, d) / bf16) ** 2)) == pytest.approx(1.0e-3, abs=1e-4)
    # mean gap in percent, and effN and effD of a fit without the bound of 1
    expected = {
        "quartet2_4over6": (1.83, 0.72, 1.07),
        "quartet2": (2.06, 0.69, 1.09),
        "tetrajet2_base": (2.22, 0.69, 1.04),
        "four_over_six": (2.40, 0.65, 1.13),
        "nvfp4": (2.53, 0.63, 1.15),
    }
    for name, (gap, parameters, tokens) in expected.items():
        ratio = published.RECIPES[name] / bf16
        assert 100 * np.mean(ratio - 1) == pytest.approx(gap, abs=0.01), name
        free = fit_shares(QUARTET2, n, d, np.log(ratio), most=10)
        assert (free.parameters, free.tokens) == (pytest.approx(parameters, abs=0.01), pytest.approx(tokens, abs=0.02))
        bounded, known = fit_shares(QUARTET2, n, d, np.log(ratio)), shares_of(RECIPES[name])
        assert known is not None
        assert vars(bounded) == pytest.approx(vars(known.shares), abs=1e-3), name
    assert measured_gap(RECIPES["nvfp4"]) == pytest.approx(0.0134)
    assert measured_gap(RECIPES["mxfp8"]) is None


def test_intervals_hold_the_truth_and_widen_with_the_noise(law: TaskLaw) -> None:
    assert law.law is not None
    assert law.misfit < 3e-3
    assert law.rising == []
    assert 0 < law.misfit < law.typical
    assert warning(law) == ""
    assert [own.config for own in law.recipes] == ["mxfp8", "mxfp4"]
    mxfp8, mxfp4 = law.recipes
    for own, truth in ((mxfp4, SHARES["mxfp4"]), (mxfp8, SHARES["mxfp8"])):
        expected = (*truth, *(extrapolated(TRUE, EffectiveShares(*truth), size) for size in LARGE))
        for known, value, most in zip((own.parameters, own.tokens, *own.gaps), expected, (1, 1, 1, 1), strict=True):
            assert 0 <= known.low <= value <= known.high + 1e-9 <= most + 1e-8
            assert known.low <= known.value <= known.high
    noisy = task_law(grid_of(7, paired=1e-2), draws=8).recipes[-1]
    assert noisy.config == "mxfp4"
    assert noisy.gaps[0].high - noisy.gaps[0].low > 1.5 * (mxfp4.gaps[0].high - mxfp4.gaps[0].low)
    alone = task_law(grid_of(7, seeds=1), draws=5).recipes[-1]
    assert math.isnan(alone.parameters.low)
    assert 0.7 < alone.parameters.value < 0.9


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say() -> None:
    """20 intervals of effN, effD and the gap at 1B each; at 95 %, 16 or fewer of 20 have a chance of 1.6 %."""
    truth = EffectiveShares(*SHARES["mxfp4"])
    held = np.zeros(3, int)
    for seed in range(20):
        grid = grid_of(seed)
        del grid.losses["mxfp8"]
        (own,) = task_law(grid, draws=40).recipes
        values = (truth.parameters, truth.tokens, extrapolated(TRUE, truth, LARGE[0]))
        known = (own.parameters, own.tokens, own.gaps[0])
        held += [one.low <= value <= one.high for one, value in zip(known, values, strict=True)]
    print("held, of 20:", held)
    assert held.min() > 16


def test_a_grid_that_is_too_small_has_no_law() -> None:
    grid = grid_of(1)
    for at in POINTS[4:6]:
        del grid.losses["bf16"][at]
    found = task_law(grid)
    assert (found.law, found.recipes) == (None, ())
    assert "asks for 3 sizes with 3 token budgets each, and bf16 has not finished at so many" in found.why
    assert not large_enough(set(POINTS[:8]))
    assert large_enough(set(POINTS))
    (row,) = law_rows([found])
    assert row[1:] == ("", [])
    assert effective_shares([found]) is None
    assert law_panels([found], {}) is None
    assert "No law is fitted: it has 6 constants" in _page([found])


def test_a_loss_that_rises_with_more_tokens_is_told() -> None:
    grid = grid_of(3)
    for losses in grid.losses.values():
        for at in POINTS:
            learned = 0.5 * (at.tokens > 1e7)  # by heart: the last budget of the largest size
            losses[at] = {seed: loss + learned for seed, loss in losses[at].items()}
    found = task_law(grid, draws=3)
    assert found.rising == [1_003_520]
    assert found.misfit > found.typical
    said = "The law misses the losses of bf16 by "
    assert "At 1M parameters the loss of bf16 rises with more tokens" in warning(found)
    assert said in _page([found], figure=False)
    finding = effective_shares([found])
    assert finding is not None
    assert finding.points[-1].startswith(said)


def test_points_where_a_seed_diverged_are_left_out() -> None:
    grid = grid_of(2)
    grid.diverged["mxfp4"] = {POINTS[0]}
    grid.diverged["mxfp8"] = set(POINTS[:2])
    found = task_law(grid, draws=4)
    assert [(own.config, len(own.excess), own.left_out) for own in found.recipes] == [("mxfp4", 11, 1)]
    assert found.unfitted == ("mxfp8",)


def _records(sweep: Sweep, spoiled: Mapping[str, Cell]) -> list[Record]:
    random, records = np.random.default_rng(3), []
    for cell in sweep.cells:
        scale = cell.trial.task.scale(cell.trial.training)
        n, d = SHARES[str(cell.labels["recipe"])]
        loss = float(TRUE.loss(scale.parameters * n, scale.tokens * d)) if scale else 1.5
        whole = record(cell, loss * math.exp(random.normal(0, 1e-3)))
        records.append(diverged(cell) if cell.uid in spoiled else whole)
    return records


def test_the_grid_of_a_sweep(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    spoiled = next(
        cell for cell in sweep.cells if cell.labels["recipe"] == "mxfp4" and "0.5M" in str(cell.labels["task"])
    )
    (grid,) = loss_grids(tabulate(sweep, _records(sweep, {spoiled.uid: spoiled})))
    assert (grid.task, grid.baseline) == ("lm(text=tinyshakespeare)", "bf16")
    sizes = {name: SIZES[name].parameters for name in ("tiny", "0.5M", "1M")}
    per_step = {"tiny": 8 * 64, "0.5M": 16 * 128, "1M": 16 * 128}
    expected = {GridPoint(sizes[name], per_step[name] * steps) for name in sizes for steps in (100, 200, 400)}
    assert set(grid.points("bf16")) == grid.planned == expected
    assert set(grid.points("mxfp4")) == expected - {GridPoint(sizes["0.5M"], per_step["0.5M"] * 100)}
    assert all(len(seeds) == 2 for seeds in grid.losses["bf16"].values())
    flat = sweep_of(tmp_path, TEXT.replace("[100, 200, 400]", "[100]"))
    assert loss_grids(tabulate(flat, [])) == []


def test_a_task_tells_its_parameters_and_tokens() -> None:
    task = LanguageModel(size="0.5M", tokens_per_parameter=8)
    scale = task.scale(task.training())
    assert scale is not None
    size = SIZES["0.5M"]
    net = Llama(65, size.context, size.width, size.depth, size.heads, size.hidden, False, 0.0)
    matrices = {name: p for name, p in net.named_parameters() if p.ndim == 2}
    outside = [name for name in matrices if not name.startswith("blocks")]
    assert len(outside) == 2, outside  # embedding and head
    assert scale.parameters == sum(p.numel() for name, p in matrices.items() if name not in outside)
    assert scale.tokens == pytest.approx(8 * scale.parameters, rel=1e-3)
    assert scale.family == LanguageModel()
    assert LanguageModel(size="nanogpt-cpu").scale(task.training()) is None
    assert TASKS["regression"]().scale(task.training()) is None


def _page(laws: list[TaskLaw], figure: bool = True) -> str:
    drawn = law_panels(laws, recipe_styles(["bf16", "mxfp8", "mxfp4"], "bf16")) if figure else None
    shown = Markup(drawn.inline("law", "laws")) if drawn else None
    context = {
        "laws": law_rows(laws), "figures": {"law": shown}, "data": "law",
        "law_sizes": [size_name(size) for size in LARGE], "law_tokens": TOKENS_PER_PARAMETER, "limit": 12, "most": 100,
        "law_warning": warning, "standalone": False,
    }  # fmt: skip
    return _environment().get_template("law.html.j2").render(context)


def test_the_section_the_table_and_the_sentence(law: TaskLaw) -> None:
    html = _page([law])
    mxfp4 = law.recipes[-1]
    assert f'<td class="n" data-v="{-mxfp4.parameters.value:.6g}">{mxfp4.parameters.value:.3f} (' in html
    assert "gap at 1B, %" in html
    assert "996 times and more beyond the largest model" in html
    told = re.findall(r'<g class="said" tabindex="0"><title>([^<]*)', html)
    assert sum(text.startswith("mxfp4, 94K parameters\nloss ") for text in told) == 2 * 4  # above and below
    assert sum(text.startswith("mxfp4, 94K parameters\nworth 0.8") for text in told) == 2
    frame = law_frame([law])
    assert list(frame["config"]) == ["mxfp8", "mxfp4"]
    assert frame["effective_parameters"].iloc[1] == mxfp4.parameters.value
    assert frame["gap_8B_high"].iloc[1] == mxfp4.gaps[1].high
    said = effective_shares([law])
    assert said is not None
    known = mxfp4.parameters
    assert f"mxfp4 {known.value:.2f} ({known.low:.2f} to {known.high:.2f}) of the parameters" in said.sentence
    assert "996 times the largest model here" in said.points[0]


@pytest.mark.slow
def test_the_report_has_the_section(tmp_path: Path, few_pictures: None) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    page = write_report(sweep, _records(sweep, {}), tmp_path / "out")
    html = page.read_text(encoding="utf-8")
    for part in ('<section id="law">', '<a href="#law">Loss law</a>', "<b>Loss law.</b>"):
        assert part in html
    assert {f"law.{end}" for end in ("csv", "tex", "svg")} <= {
        path.name for path in (tmp_path / "out" / "law").iterdir()
    }
