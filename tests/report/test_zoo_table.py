"""The zoo's table and the table of learning rates, from records that follow a rule."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from dse.report import task_table
from dse.results.store import Store
from tests.report.studies import record, sweep_of


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = sweep_of(tmp_path, "tasks: [{image: {net: vit}}, lm]\nrecipes: [nvfp4]\nseeds: 3")
    gaps = {0: 0.01, 1: 0.02, 2: 0.03}
    records = []
    for cell in sweep.cells:
        gap = 0.0 if cell.is_baseline else gaps[cell.trial.seed]
        made = record(cell, 0.5 + 0.1 * cell.trial.seed + gap)
        records.append(replace(made, seconds=4.0, pack={"width": 6}))
    for folder, changes in (("cpu", {}), ("gpu", {"device": "NVIDIA H100", "seconds": 0.25, "pack": {"width": 64}})):
        Store(tmp_path / folder).append(*(replace(one, **changes) for one in records))  # type: ignore[arg-type]
    with (tmp_path / "agreement.csv").open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["task", "against", "kind", "spearman", "spearman_low", "spearman_high"])
        writer.writeheader()
        writer.writerow(
            dict(zip(writer.fieldnames, ("lm", "image(net=vit)", "reference", "0.91", "0.8", "0.95555"), strict=True))
        )
    assert (
        task_table.main([str(tmp_path / "cpu"), str(tmp_path / "gpu"), "--agreement", str(tmp_path / "agreement.csv")])
        == 0
    )
    head, _, *rows = map(cells, capsys.readouterr().out.splitlines())
    by = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert set(by) == {"image(net=vit)", "lm"}
    lm = by["lm"]
    assert lm["baseline"].startswith("loss 0.6000")
    assert (lm["seeds"], lm["sd"], lm["data"]) == ("3", "0.100", "stdlib")
    assert float(lm["paired sd"]) == pytest.approx(0.01, rel=0.1)
    assert (lm["s/trial CPU"], lm["s/trial GPU"]) == ("4.00 (in 6)", "0.250 (in 64)")
    assert lm["rank correlation"] == "0.91 (0.8 to 0.955)"
    assert by["image(net=vit)"]["rank correlation"] == "(reference)"


def test_a_task_is_listed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = "tasks: [lm, image]\nrecipes: [bf16]\nseeds: 2\ngrid: {training.lr: [1e-3, 2e-3, 4e-3]}"  # 4e-3: defaults
    study = "tasks: [{lm: {training: {steps: 9, lr: 1e-3}}}, {lm: {size: small}}]\nrecipes: [mxfp4]\nseeds: 2"
    for text in (scan, study):
        Store(tmp_path / "r").append(*(record(cell, 0.5) for cell in sweep_of(tmp_path, text).cells))
    assert task_table.main([str(tmp_path / "r")]) == 0
    _, _, *rows = map(cells, capsys.readouterr().out.splitlines())
    names = {row[0]: row[2] for row in rows}
    # where recipes were compared, under the name that the sweep gives it; otherwise the default training
    assert names == {"lm(steps=9, lr=0.001)": "9", "lm(size=small)": "600", "image": "100"}
    assert {cell.labels["task"] for cell in sweep_of(tmp_path, study).cells} == set(names) - {"image"}


def test_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [bf16]\nseeds: 2\ngrid: {training.lr: [1e-3, 2e-3, 4e-3]}")
    metric = {1e-3: 0.7, 2e-3: 0.4, 4e-3: 0.41}
    Store(tmp_path / "r").append(*(record(c, metric[c.trial.training.lr] + 0.01 * c.trial.seed) for c in sweep.cells))
    more = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [bf16]\nseeds: [2, 3]")  # lucky seeds that 4e-3 alone has
    Store(tmp_path / "r").append(*(record(cell, 0.1) for cell in more.cells))
    assert task_table.main([str(tmp_path / "r"), "--rates"]) == 0
    (row,) = map(cells, capsys.readouterr().out.splitlines()[2:])
    assert row == ["lm", "120", "2", "0.001 0.7050, 0.002 0.4050*, 0.004 0.4150", "0.001"]


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert task_table.main([str(tmp_path / "none")]) == 2
    assert "no results" in capsys.readouterr().err
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [bf16]\nseeds: 1")
    Store(tmp_path / "r").append(*(record(cell, 0.5) for cell in sweep.cells))
    assert task_table.main([str(tmp_path / "r"), "--agreement", str(tmp_path / "no.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err
