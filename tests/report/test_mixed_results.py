"""The law of mixed quantization in a report: from records of searches under budgets of bits."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest

from dse.report.analysis.mixed_results import mixed_frame, mixed_results
from dse.report.analysis.tidy import tabulate
from dse.report.write import write_report
from dse.results.record import Record
from dse.sweep import Sweep
from tests.report.studies import records_of, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

TEXT = """
tasks: [lm, diffusion]
recipes:
  - bf16
  - mixed: {base: nvfp4_plain}
  - three: {base: nvfp4_plain}
seeds: 3
when:
  - if: {recipe: mixed}
    grid:
      post: [{autoquantize: {bits: 5}}, {autoquantize: {bits: 8}}, {autoquantize: {bits: 12}}]
      forward.block: [16, 64]
  - if: {recipe: three}
    grid:
      post: [{autoquantize: {formats: [{block: {element: e4m3}}, bf16]}}]
"""
SHARES = {5.0: 0.9, 8.0: 0.7, 12.0: 0.3}


def study(folder: Path) -> tuple[Sweep, list[Record]]:
    """Increases of 0.001 exp(2 share) block^0.5; of diffusion negative ones under blocks of 64."""
    sweep = sweep_of(folder, TEXT)
    records = []
    for one, cell in zip(records_of(sweep, lambda labels: 1.0), sweep.cells, strict=True):
        post, block = cell.trial.recipe.post, getattr(cell.trial.recipe.fprop.rhs, "block", 0)
        if post is None:
            records.append(one)
            continue
        share, noise = SHARES.get(post.bits, 0.5), 1 + 0.01 * cell.trial.seed  # type: ignore[attr-defined]
        increase = 0.001 * noise * math.exp(2 * share) * block**0.5
        if cell.trial.task.name == "diffusion":
            increase *= -1 if block == 64 else 1
        facts = {"bits_per_weight": 6.0, "format_shares": [share, 1 - share], "weights": 79360}
        records.append(replace(one, metric=one.metric + increase, pack={"post": facts}))
    return sweep, records


def test_sentences_and_table(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    found = {(one.task, one.recipe): one for one in mixed_results(tabulate(sweep, records))}
    assert list(found) == [("lm", "mixed"), ("diffusion", "mixed")]
    law = found["lm", "mixed"].law
    assert law is not None
    assert law.share.value == pytest.approx(2, abs=1e-3)
    assert law.block is not None
    assert law.block.value == pytest.approx(0.5, abs=1e-3)
    assert law.constant.low < law.constant.value < law.constant.high
    said = str(found["lm", "mixed"])
    assert said.startswith("lm, mixed: the metric grows by 0.00101 [0.001, 0.00102] exp(2 [2, 2] Q_r) Q_b^0.5")
    assert said.endswith("N has one value here).")
    assert "(6 configurations, off by " in said
    assert "3 configurations with a positive increase, 3 parameters" in str(found["diffusion", "mixed"])
    rows = mixed_frame(found.values()).to_dict("records")
    assert rows[0]["block"] == pytest.approx(0.5, abs=1e-3)
    assert math.isnan(rows[1]["block"])


@pytest.mark.slow
def test_the_page(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    page = write_report(sweep, records, tmp_path / "out").read_text(encoding="utf-8")
    assert "the metric grows by" in page
    (data,) = (tmp_path / "out").rglob("mixed-quantization.csv")
    assert [row["task"] for row in csv.DictReader(data.open(encoding="utf-8"))] == ["lm", "diffusion"]
