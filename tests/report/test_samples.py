"""Samples in the report: the same noise in a column, distances paired by seed, losses by noise level."""

from __future__ import annotations

import base64
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dse.report import write_report
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.tidy import TidyTable, tabulate
from dse.report.sections.sample_grids import MOST, sample_grids
from dse.results.record import Record
from dse.results.samples import distance, pictures
from dse.sweep import Sweep
from dse.tasks.pictures import Pictures
from tests.report.studies import diverged, records_of, sweep_of
from tests.report.test_page import Page

pytestmark = pytest.mark.usefixtures("few_pictures")

TEXT = "name: x\ntasks: [{diffusion: {generate: 64}}, lm]\nrecipes: [mxfp4, nvfp4]\nseeds: 2\n"
GAP = {"bf16": 0.0, "nvfp4": 0.1, "mxfp4": 0.2}
FAR = {"bf16": 0, "nvfp4": 10, "mxfp4": 40}


def kept(level: int) -> dict[str, object]:
    return Pictures(np.full((8, 8, 8), level, np.uint8), 0.01).plain()


def study(folder: Path, text: str = TEXT) -> tuple[Sweep, list[Record]]:
    """Pictures of one gray level each, lighter than the baseline's by FAR; the seed moves both."""
    sweep = sweep_of(folder, text)
    records = []
    for record in records_of(sweep, lambda at: 1.0 + GAP.get(at["recipe"], 0.3) + 0.01 * at["seed"]):
        if record.task == "diffusion":
            far = FAR.get(record.recipe, 60)
            loss = {
                f"loss_{name}": (1.0 + GAP.get(record.recipe, 0.3)) * w for name, w in (("low", 2.0), ("high", 4.0))
            }
            samples = {"made": kept(100 + 50 * record.seed + far)} | (
                {"real": kept(7)} if record.recipe == "bf16" else {}
            )
            record = replace(record, metrics=loss | {"frechet": 5.0 + far}, samples=samples)
        records.append(record)
    return sweep, records


def table_of(sweep: Sweep, records: list[Record]) -> TidyTable:
    return tabulate(sweep, records)


def test_numbers_and_order(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    table = table_of(sweep, records)
    (grid,) = sample_grids(table, aggregate_seeds(table), ["bf16"])
    assert (grid.task, grid.seed, grid.count, grid.frechet_images, grid.omitted) == (
        "diffusion(generate=64)",
        "0",
        8,
        64,
        0,
    )
    assert grid.columns == ["distance to bf16", "Fréchet distance", "loss, low noise", "loss, high noise"]
    assert [row.recipe for row in grid.rows] == ["bf16", "nvfp4", "mxfp4"]
    shown = [[cell.text.replace("\u00a0", " ") for cell in row.cells] for row in grid.rows]
    assert shown[0] == ["0 (reference)", "5.0000 ± 0.0000", "2.00", "4.00"]
    assert [cell.value for cell in grid.rows[1].cells] == pytest.approx([0.1, 15, 0.1, 0.1])
    assert [cell.value for cell in grid.rows[2].cells] == pytest.approx([0.4, 45, 0.2, 0.2])
    assert grid.rows[2].cells[2].text.startswith("+20.0")
    assert len({grid.real, *(row.image for row in grid.rows)}) == 4
    for row in grid.rows:
        assert base64.b64decode(str(row.image).split(",")[1]).startswith(b"\x89PNG")


def test_the_page_has_a_row_for_each_and_says_what_is_missing(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    cells = {cell.uid: cell for cell in sweep.cells}
    lost = next(i for i, r in enumerate(records) if (r.task, r.recipe, r.seed) == ("diffusion", "mxfp4", 0))
    records[lost] = diverged(cells[records[lost].uid], 42)
    path = write_report(sweep, records, tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert "samples" in page.values("id")
    assert page.values("class").count("strip") == 3  # real ones, the baseline and nvfp4
    assert "diverged at step 42" in page.text
    rows = list(csv.DictReader((tmp_path / "x" / "samples.csv").open(encoding="utf-8")))
    assert len(rows) == 5
    far = {(r["config"], r["seed"]): float(r["sample_distance"]) for r in rows}
    assert far["nvfp4", "0"] == pytest.approx(0.1)
    assert far["mxfp4", "1"] == pytest.approx(0.4)


def test_nothing_made_no_section(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    bare = [replace(record, samples={}, metrics={}) for record in records]
    page = Page(write_report(sweep, bare, tmp_path).read_text(encoding="utf-8"))
    assert "samples" not in page.values("id")
    assert not (tmp_path / "x" / "samples.csv").exists()


def test_many_configurations_are_cut(tmp_path: Path) -> None:
    text = "name: x\ntasks: [diffusion]\nrecipes: [mxfp4, nvfp4]\nseeds: 1\ngrid: {'*.block': [8, 16, 32, 64], "
    text += "G.rounding: [nearest_even, stochastic, toward_zero]}\n"
    sweep, records = study(tmp_path, text)
    table = table_of(sweep, records)
    configs = aggregate_seeds(table)
    chosen = ["bf16", str(configs["config"].iloc[-1])]
    (grid,) = sample_grids(table, configs, chosen)
    assert len(grid.rows) == MOST
    assert grid.omitted == len(set(table.frame["config"])) - MOST
    assert {f"{row.recipe} {row.overrides}".strip() for row in grid.rows} >= set(chosen)


def test_pictures_that_do_not_belong_together(tmp_path: Path) -> None:
    base, other, *_ = (record for record in study(tmp_path)[1] if record.samples)
    assert distance(other, base) >= 0
    assert not distance(replace(other, data="else"), base) >= 0
    assert not distance(other, None) >= 0
    assert not distance(replace(other, samples={"made": kept(1) | {"shape": [2, 8, 8]}}), base) >= 0
    assert pictures(replace(other, samples={"made": kept(1) | {"pixels": "x"}})) is None


def test_pictures_that_nobody_can_read_are_no_pictures(tmp_path: Path) -> None:
    sweep, records = study(tmp_path)
    broken = [replace(record, samples={"made": {"count": 8}} if record.samples else {}) for record in records]
    table = table_of(sweep, broken)
    assert sample_grids(table, aggregate_seeds(table), ["bf16"]) == []
    some = [r if old.seed else b for r, b, old in zip(records, broken, records, strict=True)]
    table = table_of(sweep, some)
    (grid,) = sample_grids(table, aggregate_seeds(table), ["bf16"])
    assert grid.seed == "1"
