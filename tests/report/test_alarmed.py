"""Alarms on the page: one line a cause, after the answers unless an answer names the configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dse.report.analysis.tidy import TidyTable, tabulate
from dse.report.findings import alarmed_trials
from tests.report.studies import record, sweep_of

CHECK = {
    "gain": 0.5,
    "error": 0.1,
    "expected_gain": 1.0,
    "expected_error": 0.1,
    "elements": 1e6,
    "zeros": 0.0,
    "repeats": 0,
    "vjp": 0,
}
LOST = {"bf16": 0.0, "mxfp4": 0.3, "nvfp4": 0.1, "nvfp4_plain": 0.2}


def made(tmp_path: Path, *alarmed: str) -> TidyTable:
    sweep, records = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4, nvfp4, nvfp4_plain]\nseeds: 2\n"), []
    for cell in sweep.cells:
        one = record(cell, 1.0 + LOST[cell.config])
        layers = ("blocks.0.q", "blocks.0.k", "blocks.1.v")
        rows = [[4, layer, "wgrad", {**CHECK, "gain": 0.5 if cell.config in alarmed else 1.0}] for layer in layers]
        records.append(replace(one, gemm_checks=rows))
    return tabulate(sweep, records)


def test_a_line_for_each_cause(tmp_path: Path) -> None:
    table = made(tmp_path, "mxfp4", "nvfp4_plain")
    found = alarmed_trials(table, ["Best: nvfp4 loses 1 %; next is nvfp4_plain G.rounding=stochastic."])
    assert found is not None
    assert not found.urgent, "nvfp4_plain with an override is another configuration"
    assert found.points == [
        f"{config}: the size of a product is off, 3 products in 2 trials; for example on lm, blocks.0.q wgrad: "
        "gain 0.50, expected 1.00."
        for config in ("mxfp4", "nvfp4_plain")
    ]
    assert alarmed_trials(made(tmp_path), []) is None


def test_first_only_where_an_answer_names_it(tmp_path: Path) -> None:
    for config, first in (("mxfp4", False), ("nvfp4", True), ("nvfp4_plain", True)):
        found = alarmed_trials(made(tmp_path, config), ["Best: nvfp4 loses 1 %; next is nvfp4_plain."])
        assert found is not None
        assert found.urgent is first
