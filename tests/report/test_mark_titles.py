"""Marks of the forest and of the training curves tell what they are: name, value with its interval, trials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd

from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import option_effects
from dse.report.analysis.training_curves import COLUMNS, HELD_OUT, TRAINING
from dse.report.figures import curves
from dse.report.figures.curves import training
from dse.report.figures.drawing import Drawing
from dse.report.figures.forest import forest
from dse.report.figures.point_marks import MarkTitles, with_points
from dse.report.figures.style import recipe_styles
from dse.results.record import DIVERGED, OK
from tests.report.studies import table_of

TEXT = """
    tasks: [lm, regression]
    recipes: [mxfp4, nvfp4]
    seeds: 2
    grid: {G.rounding: [nearest_even, stochastic]}
"""
_TITLE = re.compile(r'<g class="said" tabindex="0"><title>([^<]*)</title><(path|use) ')


def titles(drawn: Drawing | None) -> list[tuple[str, str]]:
    """Text and kind of shape of each titled mark."""
    assert drawn is not None
    html = drawn.inline("f", "a figure")
    found = [(unescape(text).replace("\u00a0", " "), shape) for text, shape in _TITLE.findall(html)]
    assert len(found) == html.count('class="said"') == html.count("<title>")
    return found


def rule(at: Mapping[str, Any]) -> float:
    if at["recipe"] == "bf16":
        return 1.0
    return 1.1 + 0.05 * (at["recipe"] == "mxfp4") + 0.01 * at["seed"] - 0.02 * (at["G.rounding"] == "stochastic")


def test_each_mark_of_the_forest_tells_its_effect(tmp_path: Path) -> None:
    table = table_of(tmp_path, TEXT, rule)
    found = titles(forest(option_effects(table), table.tasks))
    heads = [(text.split("\n")[0], shape) for text, shape in found]
    for name in ("G.rounding = stochastic, instead of nearest_even", "nvfp4 against bf16", "mxfp4 against bf16"):
        assert heads.count((name, "use")) == 3, name  # over all tasks, and on each
        assert heads.count((name, "path")) == 1, name  # the bar
    assert len(found) == 12
    own = [text for text, _ in found if text.startswith("nvfp4 against") and text.split("\n")[1].endswith(ALL)]
    assert len(set(own)) == 1
    assert re.search(r"\n\+9\.5 ± 1\.5 points of the improvement lost, all tasks\n2 seeds, 8 pairs of trials: ", own[0])
    assert any(text.split("\n")[1].endswith(", regression") for text, _ in found)


def test_each_mark_of_the_curves_tells_its_value(tmp_path: Path) -> None:
    table = table_of(tmp_path, TEXT, rule)
    rows = []
    for recipe, seed, status in (("bf16", "0", OK), ("bf16", "1", OK), ("mxfp4", "0", OK), ("mxfp4", "1", DIVERGED)):
        gap = 0.5 * (recipe == "mxfp4")
        for kind, steps in ((TRAINING, (0, 10, 20, 30)), (HELD_OUT, (0, 15, 30))):
            rows += [["lm", recipe, recipe, seed, status, kind, s, 3 + gap + int(seed) - s / 30, gap] for s in steps]
    points = pd.DataFrame(rows, columns=COLUMNS)
    styles = recipe_styles(["bf16", "mxfp4"], "bf16")
    found = titles(training(table, points, styles))
    held_out = [text for text, shape in found if shape == "use" and f"\n{HELD_OUT} " in text]
    assert "bf16\nheld-out metric 3.0 ± 6.4 at step 15\n2 seeds, from 2.500 to 3.500" in held_out
    assert "mxfp4\nheld-out metric 2.50 at step 30\n1 seed" in held_out
    assert len(held_out) == 2 + 2 * 3  # a band each, and a mark at every step
    assert ("bf16\ntraining loss 2.5 ± 6.4 at step 30\n2 seeds, from 2.000 to 3.000", "path") in found
    assert ("mxfp4\ntraining loss, difference to the baseline +0.500 at step 30\n1 seed", "path") in found
    cross = "mxfp4, seed 1: diverged, last seen at step 30"
    assert [shape for text, shape in found if text == cross] == ["path", "use"] * 3


def test_of_many_held_out_points_the_lines_tell_their_last(tmp_path: Path, monkeypatch: Any) -> None:
    table = table_of(tmp_path, TEXT, rule)
    rows = [["lm", "bf16", "bf16", "0", OK, HELD_OUT, step, 3 - step / 30, 0.0] for step in range(5)]
    points, styles = pd.DataFrame(rows, columns=COLUMNS), recipe_styles(["bf16"], "bf16")
    monkeypatch.setattr(curves, "_MOST_TITLES", 4)
    assert [text.split("\n")[1] for text, _ in titles(training(table, points, styles))] == [
        "held-out metric 2.87 at step 4"
    ] * 2


def test_texts_are_escaped_and_in_order() -> None:
    said = MarkTitles()
    first, second = said.id("a < b"), said.id("c", "d")
    svg = f'<svg><g id="{first}"><path d="1"/></g><g id="{second}"><defs/><use x="1"/><use x="2"/></g></svg>'
    shown = with_points(svg, None, said.texts)
    assert re.findall(r"<title>([^<]*)</title>(<[^>]*>)", shown) == [
        ("a &lt; b", '<path d="1"/>'),
        ("c", '<use x="1"/>'),
        ("d", '<use x="2"/>'),
    ]
