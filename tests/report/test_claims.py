"""Published claims: recipes are told apart, and verdicts follow from intervals, divergence and shares that learn."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import norm

from dse.recipes import RECIPES
from dse.report import write_report
from dse.report.analysis.claim_list import CLAIMS, Claim
from dse.report.analysis.claim_results import (
    ABSENT,
    CONTRADICTED,
    NOT_VISIBLE,
    REPRODUCED,
    ClaimResult,
    claim_results,
)
from dse.report.analysis.learned import learned_shares, wilson
from dse.report.analysis.post_claims import POST_CLAIMS
from dse.report.analysis.published import recipe_content
from dse.report.analysis.tidy import tabulate
from dse.report.questions import Study, compare_configs
from dse.report.sections.claim_rows import SAME, claim_frame, claim_rows
from dse.sweep import load_sweep
from tests.report.studies import diverged, record, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

TEXT = """
    tasks: [regression]
    recipes: [nvfp4, mxfp4]
    seeds: 6
"""
CLAIM = Claim("a", "b", RECIPES["nvfp4"], RECIPES["mxfp4"])
NOISE = (0.0, 0.001, -0.001, 0.002, -0.002, 0.0)


def result(
    folder: Path, difference: float, claim: Claim = CLAIM, spread: float = 1.0, dead: Sequence[int] = ()
) -> ClaimResult:
    """MXFP4 loses ``difference`` of the improvement (1.5) more, with a little noise; seeds ``dead`` of it diverge."""
    sweep, records = sweep_of(folder, TEXT), []
    for cell in sweep.cells:
        seed = cell.trial.seed
        lost = {"bf16": 0.0, "nvfp4": 0.02, "mxfp4": 0.02 + difference + spread * NOISE[seed]}[cell.config]
        dies = cell.config == "mxfp4" and seed in dead
        records.append(diverged(cell) if dies else record(cell, 0.5 + 1.5 * lost))
    (one,) = claim_results(tabulate(sweep, records), [claim])
    return one


@pytest.mark.parametrize(
    ("difference", "spread", "same", "verdict"),
    [
        (0.02, 1, False, REPRODUCED),
        (-0.02, 1, False, CONTRADICTED),
        (0.0, 1, False, CONTRADICTED),  # 1 % of the improvement is excluded
        (0.0, 30, False, NOT_VISIBLE),
        (0.0, 1, True, REPRODUCED),
        (0.02, 1, True, CONTRADICTED),
        (0.0, 30, True, NOT_VISIBLE),
    ],
)
def test_an_interval_decides(tmp_path: Path, difference: float, spread: float, same: bool, verdict: str) -> None:
    one = result(tmp_path, difference, replace(CLAIM, same=same), spread)
    assert one.verdict == verdict
    assert one.difference.mean == pytest.approx(-difference if same else difference)
    assert one.seeds == 6


def test_the_sign_of_a_claim_that_two_are_the_same(tmp_path: Path) -> None:
    """A quantized recipe that loses more than the baseline has a positive difference, in `compare` and in the CSV."""
    sweep = sweep_of(tmp_path, TEXT.replace("nvfp4, mxfp4", "mxfp8, mxfp6, fp32"))
    lost = {"bf16": 0.0, "fp32": -0.001, "mxfp8": 0.002, "mxfp6": 0.008}
    records = [
        record(cell, 0.5 + 1.5 * (lost[cell.config] + 0.1 * NOISE[cell.trial.seed] * (not cell.is_baseline)))
        for cell in sweep.cells
    ]
    study = Study.of(sweep, records)
    assert compare_configs(study, "", "mxfp8", "bf16").sentence.startswith("mxfp8 loses more than bf16: +0.2")
    claims = tuple(claim for claim in CLAIMS if claim.same)
    found = claim_results(study.table, claims)
    frame = claim_frame(found).set_index("claim")
    assert set(frame["positive_means"]) == {SAME}
    assert frame["lost_difference"].to_dict() == pytest.approx(
        {"MXFP8 trains as BF16 does": 0.002, "MXFP6 trains as FP32 does": 0.009}
    )
    shown = {one.claim.statement: cells[0] for one, cells in claim_rows(found)}
    assert shown["MXFP8 trains as BF16 does"].text.startswith("+0.2")
    page = write_report(sweep, records, tmp_path / "out").read_text(encoding="utf-8")
    head = page[page.index('id="claims"') :]
    assert SAME in head[head.index("<thead>") : head.index("</thead>")]


@pytest.mark.parametrize("same", [False, True])
def test_a_part_that_a_task_lacks_decides_nothing(tmp_path: Path, same: bool) -> None:
    """Recipes that differ in attention alone, say, train the same on a task without it: no evidence either way."""
    claim = replace(CLAIM, same=same)
    assert result(tmp_path, 0.0, claim, spread=0).verdict == ABSENT
    # one pair whose curves differ somewhere, and the interval decides again
    sweep = sweep_of(tmp_path, TEXT)
    records = [record(cell, 0.5 if cell.is_baseline else 0.53) for cell in sweep.cells]
    odd = next(i for i, cell in enumerate(sweep.cells) if cell.config == "mxfp4")
    records[odd] = replace(records[odd], curve=[[step, loss + 1e-7] for step, loss in records[odd].curve[:-1]])
    (one,) = claim_results(tabulate(sweep, records), [claim])
    assert one.verdict == (REPRODUCED if same else CONTRADICTED)


def test_a_recipe_that_diverges_is_worse(tmp_path: Path) -> None:
    one = result(tmp_path, -0.02, dead=range(6))
    assert (one.verdict, one.diverged) == (REPRODUCED, (0, 6))
    assert result(tmp_path, -0.02, dead=range(3)).verdict == NOT_VISIBLE


def test_shares_that_learn(tmp_path: Path) -> None:
    sweep, records = sweep_of(tmp_path, TEXT.replace("regression", "addition")), []
    for cell in sweep.cells:
        fails = cell.config == "mxfp4" and cell.trial.seed > 0
        made = record(cell, 0.9 if fails else 0.0)
        records.append(replace(made, evals=[[0, 1.0], [4, 0.2], [8, 0.95 if fails else 0.05], [10, made.metric]]))
    table = tabulate(sweep, records)
    shares = {one.config: one for one in learned_shares(table)["addition"]}
    assert (shares["nvfp4"].learned, shares["mxfp4"].learned, shares["mxfp4"].seeds) == (6, 1, 6)
    assert shares["nvfp4"].steps == (8,) * 6
    (one,) = claim_results(table, [CLAIM])
    assert (one.learned, one.verdict) == ((6, 1), REPRODUCED)
    path = write_report(sweep, records, tmp_path / "out")
    page = path.read_text(encoding="utf-8")
    assert "1 of 6" in page
    assert "6 and 1 of 6 seeds learn" not in page  # no published claim is about these two
    with (path.with_suffix("") / "learned.csv").open(encoding="utf-8") as file:
        rows = {row["config"]: row for row in csv.DictReader(file)}
    assert (rows["mxfp4"]["learned"], rows["nvfp4"]["steps"]) == ("1", "8 8 8 8 8 8")


def test_wilson_s_interval() -> None:
    z = float(norm.ppf(0.975))
    middle, half = (3 + z * z / 2) / (10 + z * z), z / (10 + z * z) * (3 * 7 / 10 + z * z / 4) ** 0.5
    assert wilson(3, 10) == pytest.approx((middle - half, middle + half))


def test_shipped_sweeps_test_every_claim() -> None:
    untested = {claim.statement for claim in (*CLAIMS, *POST_CLAIMS)}
    for name in ("published", "factorial", "post-training", "sq-dm"):
        cells = load_sweep(Path(__file__).parents[2] / "sweeps" / f"{name}.yaml").cells
        known = {recipe_content(recipe) for recipe in {cell.trial.recipe for cell in cells}}
        every = (*CLAIMS, *POST_CLAIMS)
        untested -= {c.statement for c in every if {recipe_content(c.better), recipe_content(c.worse)} <= known}
    assert untested == set()
