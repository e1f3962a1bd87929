"""Inside the layers: whom the report looks at, what it says, and that it says what was planted."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dse.numerics.recipe import POINTS
from dse.report import write_report
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.tidy import TidyTable, tabulate
from dse.report.figures import probe_panels
from dse.report.figures.style import recipe_styles
from dse.report.probe_summary import probe_sentences, probed_tasks
from dse.results.record import Record
from dse.results.store import Store
from dse.sweep import Sweep
from tests.report.studies import diverged, records_of, sweep_of
from tests.report.test_page import Page

pytestmark = pytest.mark.usefixtures("few_pictures")

TEXT = "name: x\ntasks: [lm]\nrecipes: [mxfp4, nvfp4, ue5m3]\nseeds: 2\n"
GAP = {"bf16": 0.0, "nvfp4": 0.1, "ue5m3": 0.2, "mxfp4": 0.3}
SIZE = {"bf16": 0.01, "nvfp4": 0.1, "ue5m3": 0.15, "mxfp4": 0.2}
LAYERS = ("blocks.0.mlp", "blocks.1.mlp", "head")


def looks(recipe: str, steps: range) -> list[list[Any]]:
    """Errors of SIZE; in mxfp4's blocks.1.mlp dW is 4 times as wrong, and G is flushed more and more."""
    rows: list[list[Any]] = []
    for step in steps:
        for layer in LAYERS:
            bad = recipe == "mxfp4" and layer == "blocks.1.mlp"
            size = SIZE[recipe]
            operand = {"error": size, "flushed": 0.02 * step if bad else 0.0, "saturated": 0.0}
            rows += [[step, layer, point, operand | {"scales": {"-20": 3, "-19": 5}}] for point in POINTS]
            gradient = {"cosine": 1 - size, "error": size * (4 if bad else 1), "bias": 0.0}
            rows.append([step, layer, "wgrad", gradient | {"shrink": -0.2 if recipe == "mxfp4" else 0.0}])
    return rows


def study(
    folder: Path, text: str = TEXT, ended: int | None = None, base_ended: bool = False
) -> tuple[Sweep, list[Record]]:
    sweep = sweep_of(folder, text)
    cells = {cell.uid: cell for cell in sweep.cells}
    records = []
    for record in records_of(sweep, lambda at: 1.0 + GAP[at["recipe"]]):
        gone = ended is not None and (record.recipe == "mxfp4" or (base_ended and record.recipe == "bf16"))
        if gone and record.seed == 1:
            record = diverged(cells[record.uid], ended or 0, "training loss 9e9")
        steps = range(0, ended if gone and record.seed == 1 and ended else 20, 2)
        records.append(replace(record, probes=looks(record.recipe, steps)))
    return sweep, records


def of(sweep: Sweep, records: list[Record], results: Path | None = None) -> Any:
    table: TidyTable = tabulate(sweep, records)
    return probed_tasks(table, aggregate_seeds(table), results)


def test_the_one_that_diverged_beside_the_others_of_its_seed(tmp_path: Path) -> None:
    (scene,) = of(*study(tmp_path, ended=13))
    assert [(s.role, s.config, s.seed) for s in scene.trials] == [
        ("diverged", "mxfp4", "1"), ("worst", "ue5m3", "1"), ("best", "nvfp4", "1"), ("baseline", "bf16", "1"),
    ]  # fmt: skip
    assert scene.focus.diverged_at == 13
    text = " ".join(probe_sentences(scene)).replace("\u00a0", " ")
    assert "mxfp4, seed 1, diverged at step 13: training loss 9e9. The bf16 trial of the same seed" in text
    assert "did not diverge. Last look: step 12." in text
    assert "worst in blocks.1.mlp: relative error 0.800 (the median layer: 0.200)" in text
    assert "cosine to the exact one 0.800; nvfp4 has 0.100 there" in text
    assert "dW is 20.0 % too short along the exact one (nvfp4: 0 %)" in text
    assert "the share of G that is flushed to zero in blocks.1.mlp, from 0 % to 24.0 %" in text


def test_a_baseline_that_diverged_too_is_said(tmp_path: Path) -> None:
    (scene,) = of(*study(tmp_path, ended=13, base_ended=True))
    assert [s.role for s in scene.trials] == ["diverged", "diverged", "worst", "best"]
    assert scene.focus.config == "mxfp4"
    assert "So did the bf16 trial of the same seed and settings, at step 13." in probe_sentences(scene)[0]
    assert "It is the baseline" in scene.trials[1].baseline_outcome


def test_without_divergence_the_worst(tmp_path: Path) -> None:
    (scene,) = of(*study(tmp_path))
    assert [(s.role, s.config) for s in scene.trials] == [("worst", "mxfp4"), ("best", "nvfp4"), ("baseline", "bf16")]
    assert probe_sentences(scene)[0].startswith("mxfp4, seed 0, has the largest gap (+0.300, nvfp4 +0.100).")


@pytest.mark.parametrize("ended", [None, 1])
def test_figures_and_page(tmp_path: Path, ended: int | None) -> None:
    sweep, records = study(tmp_path, ended=ended)
    html = write_report(sweep, records, tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    said = page.values("aria-label") + page.values("alt")
    lines = [text for text in re.findall(r"<title>([^<]*)", html) if "layer\n" in text]
    worst = [text for text in lines if text.startswith("mxfp4, worst, seed 0\n") and "blocks.1.mlp, the worst" in text]
    assert bool(worst) == (ended is None)  # of a single measurement there are no lines
    assert all(re.search(r"\n[\d.,−]+ at step \d+$", text) for text in lines)
    assert any(one.startswith("Errors of the layers of mxfp4 over the steps") for one in said)
    assert ended == 1 or any(one.startswith("Probe quantities of lm over the steps: ") for one in said)
    question = "why did mxfp4 diverge?" if ended else "why is mxfp4 the worst?"
    assert f"lm: {question}" in page.text
    rows = list(csv.DictReader((tmp_path / "x" / "inside.csv").open(encoding="utf-8")))
    assert {row["role"] for row in rows} >= {"worst", "best", "baseline"}
    bad = [r for r in rows if (r["config"], r["layer"], r["quantity"]) == ("mxfp4", "blocks.1.mlp", "error")]
    assert {r["value"] for r in bad if r["point"] == "wgrad"} == {"0.8"}


def test_looks_are_read_from_the_results_for_those_that_are_shown(tmp_path: Path) -> None:
    sweep, records = study(tmp_path, ended=13)
    store = Store(tmp_path / "results")
    store.append(*records)
    bare = store.records(without=("probes",))
    assert not any(record.probes for record in bare)
    assert of(sweep, bare) == []
    (lazy,), (direct,) = of(sweep, bare, tmp_path / "results"), of(sweep, records)
    assert probe_sentences(lazy) == probe_sentences(direct)
    for one, other in zip(lazy.trials, direct.trials, strict=True):
        assert one.series.equals(other.series)
        assert one.histograms == other.histograms


def test_gradients_that_are_zero_at_first_have_no_shares(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    for record in records:
        for row in record.probes:
            if row[0] == 0 and row[2] == "dgrad.lhs":
                row[3] |= {"error": None, "flushed": 0.0}
    (scene,) = of(sweep, records)
    assert "flushed to zero in blocks.1.mlp, from 4.00\u00a0% to 36.0\u00a0%" in " ".join(probe_sentences(scene))


def test_without_probes_no_section(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    bare = [replace(record, probes=[]) for record in records]
    page = Page(write_report(sweep, bare, tmp_path).read_text(encoding="utf-8"))
    assert "inside" not in page.values("id")


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    sweep, records = study(tmp_path, ended=13)
    for record in records:
        for row in record.probes[-8:]:
            row[3] = dict.fromkeys(row[3]) | {"scales": {"zero": 4, "not finite": 1}}
    (scene,) = of(sweep, records)
    assert probe_sentences(scene)
    assert probe_panels.small_multiples(scene, recipe_styles(["bf16", *GAP], "bf16"))
    assert probe_panels.layer_heatmaps(scene)
