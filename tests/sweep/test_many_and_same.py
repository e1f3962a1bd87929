"""Sweeps of many cells say so at once; two configurations never share a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dse.commands import sweeps
from dse.errors import UserError
from dse.plan import make_plan, plan_text
from dse.sweep import MANY_CELLS, Sweep, load_sweep
from dse.sweep.cells.cell_count import cell_count_text, count_cells
from dse.sweep.definition.spec import read_spec
from dse.sweep.language.labels import shorten
from dse.train.options import RunOptions

SAME = """
tasks: [regression]
seeds: 1
recipes:
  - mxfp4
  - 'mxfp4 G.rounding=stochastic': {base: mxfp8}
when:
  - if: {recipe: mxfp4}
    grid: {G.rounding: [stochastic, nearest_even]}
"""
BIG = """
tasks: [regression]
recipes: [mxfp4, nvfp4]
seeds: 600
grid: {lr: {log: [1e-4, 1], levels: 100}}
search: grid
"""


def test_a_label_that_is_what_another_configuration_is_called(refusal: Callable[[str], str]) -> None:
    line = refusal(SAME)
    wanted = "x.yaml:5: recipes: 'mxfp4 G.rounding=stochastic' is also what 'mxfp4' is called with its options; choose"
    assert line.startswith(wanted)


def test_the_same_in_a_search_that_has_yet_to_choose(refusal: Callable[[str], str]) -> None:
    text = (
        SAME.partition("when:")[0]
        + "search: {method: tpe, trials: 4}\ngrid: {G.rounding: [stochastic, nearest_even]}\n"
    )
    assert "is also what 'mxfp4' is called" in refusal(text)


def test_a_baseline_with_settings_that_a_search_varies(sweep: Callable[[str], Sweep]) -> None:
    """It has no name of its own: it is called what it is, and is no other configuration."""
    search = "search: {method: METHOD, trials: 4}\ngrid: {training.lr: {log: [1e-4, 1e-1]}}\n"
    for method in ("tpe", "random"):
        found = sweep(
            "tasks: [regression]\nrecipes: [mxfp4]\nseeds: 1\nbaseline: {recipe: bf16, training.lr: 3e-3}\n"
            + search.replace("METHOD", method)
        )
        assert found.space is not None


def test_a_label_like_a_configuration_that_is_not_there(sweep: Callable[[str], Sweep]) -> None:
    found = sweep(SAME.replace("[stochastic, nearest_even]", "[nearest_even]"))
    assert len({cell.config for cell in found.cells}) == len(found.cells)


def test_many_cells_are_counted_before_they_are_expanded(write: Callable[[str], Path], tmp_path: Path) -> None:
    path = write(BIG)
    spec = read_spec(path)
    assert count_cells(spec) == 120_000 > MANY_CELLS
    assert cell_count_text(spec) == "2 recipes x 100 training.lr x 600 seeds"
    wanted = r"x.yaml:4: the sweep has about 120,000 cells \(2 recipes x 100 training.lr x 600 seeds\); --yes goes on"
    with pytest.raises(UserError, match=wanted):
        sweeps.plan(path, tmp_path / "results", None, 1)
    with pytest.raises(UserError, match=wanted):
        sweeps.run(path, tmp_path / "results", RunOptions("local", 1, track=False))
    with pytest.raises(UserError, match=r"has 120,000,000 cells; at most 1,000,000 fit"):
        load_sweep(write(BIG.replace("600", "600000")))


def test_expanding_many_cells_says_how_far_it_is(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.sweep.cells.expansion.MANY_CELLS", 100)
    said: list[str] = []
    load_sweep(write(BIG.replace("600", "20").replace("100}", "5}")), said.append)
    assert said[0] == "x: about 200 cells (2 recipes x 5 training.lr x 20 seeds)"
    assert said[1:] == [f"x: expanded {percent} %" for percent in range(10, 101, 10)]
    load_sweep(write(BIG.replace("600", "2").replace("100}", "5}")), said.append)
    assert len(said) == 11


def test_long_labels_are_cut_where_they_are_printed(sweep: Callable[[str], Sweep]) -> None:
    label = "L" * 3000
    found = sweep(f"tasks: [regression]\nseeds: 1\nrecipes:\n- ? {label}\n  : {{base: mxfp4}}\n")
    assert max(map(len, plan_text(make_plan(found, {})).splitlines())) < 130
    assert shorten("L" * 3000) == "L" * 40 + "…" + "L" * 39


def test_decimals_are_shown_and_known_as_what_they_are(sweep: Callable[[str], Sweep]) -> None:
    cells = sweep("tasks: [regression]\nrecipes: [mxfp4]\nseeds: 1\ngrid: {training.lr: [4.0, 7.0, 1e-5, 3e0]}\n").cells
    shown = [cell.config.partition("=")[2] for cell in cells if not cell.is_baseline]
    assert shown == ["4", "7", "1e-05", "3"]
    again = sweep("tasks: [regression]\nrecipes: [mxfp4]\nseeds: 1\ngrid: {training.lr: [4, 7, 0.00001, 3.0]}\n").cells
    assert [cell.uid for cell in again] == [cell.uid for cell in cells]
