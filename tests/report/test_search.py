"""Searches on the page: order, best so far, front, and which axes mattered."""

import csv
import json
import math
import random
import re
from pathlib import Path

import pytest

from dse.report import write_report
from dse.report.analysis.effects import option_effects
from dse.report.analysis.importance import axis_importances
from dse.report.analysis.searches import search_histories
from dse.report.analysis.tidy import tabulate
from dse.results.record import DIVERGED, FAILED, OK
from dse.run.search import with_asked_cells
from dse.sweep import Cell
from tests.report.studies import INITIAL, diverged, failed, record, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

TPE = """
    name: hunt
    tasks: [regression]
    recipes: [mxfp4, nvfp4]
    seeds: 2
    baseline: {recipe: bf16, training.lr: 1e-2}
    search: {method: tpe, trials: 20, batch: 2, startup: 4}
    grid:
      training.lr: {log: [1e-4, 1e-1]}
      G.rounding: [nearest_even, stochastic]
"""
RATES = [0.03, 0.001, 0.01, 0.05, 0.02, 0.07, 0.004, 0.0002, 0.006]


def _gap(cell: Cell) -> float:
    lr = float(cell.labels["training.lr"] or 0)
    return 0.0 if cell.is_baseline else 0.1 * abs(math.log10(lr) + 2) + 0.01


def _journal(folder: Path) -> Path:
    rows = [{"task": "regression", "recipe": "mxfp4", "training.lr": r, "G.rounding": "stochastic"} for r in RATES]
    (folder / "searches").mkdir()
    lines = [json.dumps(rows[i : i + 3]) for i in range(0, len(rows), 3)]
    (folder / "searches" / "hunt.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_in_the_order_of_asking(tmp_path: Path) -> None:
    results = _journal(tmp_path)
    sweep = with_asked_cells(sweep_of(tmp_path, TPE), results)
    records = {}
    for cell in sweep.cells:
        lr = cell.labels["training.lr"]
        if lr == 0.07 and cell.trial.seed == 0:
            records[cell.uid] = diverged(cell)
        elif lr == 0.004:
            records[cell.uid] = failed(cell)
        elif lr != 0.006:  # to run
            records[cell.uid] = record(cell, 1.0 + _gap(cell))
    table = tabulate(sweep, records.values())
    (hunt,) = search_histories(sweep, table, results)
    assert [c.assignment["training.lr"] for c in hunt.configurations] == RATES
    assert [c.number for c in hunt.configurations] == list(range(1, 10))
    assert (hunt.requested, hunt.startup) == (20, 4)
    assert {s: hunt.count(s) for s in (OK, DIVERGED, FAILED, "")} == {OK: 6, DIVERGED: 1, FAILED: 1, "": 1}
    told = (INITIAL - 1.0 + _gap_at(0.07)) / 2  # the seed that diverged counts as one that has learned nothing
    assert hunt.configurations[5].gap == pytest.approx(told)
    assert hunt.best_so_far[:4] == pytest.approx([_gap_at(0.03), _gap_at(0.03), _gap_at(0.01), _gap_at(0.01)])
    assert [c.assignment["training.lr"] for c in hunt.front] == [0.01]  # all cost the same
    assert search_histories(sweep, table, None) == []  # nobody knows the order
    path = write_report(sweep, records.values(), tmp_path / "out", results)
    html = path.read_text(encoding="utf-8")
    assert "9 of 20 configurations asked for" in html
    assert "6 with a number on every seed, 1 with a diverged seed" in html
    assert "varies no option" not in html
    assert "training.lr, G.rounding: no two trials differ in one of these alone" in html
    assert not {e.axis for e in option_effects(table)} - {"recipe"}, "drawn numbers are no options to compare"
    figure = html[html.index('<section id="search">') :].split("</svg>")[0]
    told = re.findall(r'<g class="pt" data-c="\d+" tabindex="0"><title>(.*?)</title><(?:use|path)', figure, re.DOTALL)
    gaps = sum(math.isfinite(c.gap) for c in hunt.configurations)
    assert len(told) == gaps + sum(math.isfinite(c.overhead) for c in hunt.configurations)
    assert sum("training.lr=0.01 " in title and "dse why " in title for title in told) == 2
    rows = list(csv.DictReader((tmp_path / "out" / "hunt" / "search.csv").open(encoding="utf-8")))
    assert [row["number"] for row in rows] == [str(n) for n in range(1, 10)]


def _gap_at(lr: float) -> float:
    return 0.1 * abs(math.log10(lr) + 2) + 0.01


def test_random_points_are_drawn_again(tmp_path: Path) -> None:
    text = TPE.replace("{method: tpe, trials: 20, batch: 2, startup: 4}", "{method: random, trials: 12, seed: 5}")
    sweep = sweep_of(tmp_path, text)
    table = tabulate(sweep, [record(cell, 1.0 + _gap(cell)) for cell in sweep.cells])
    (hunt,) = search_histories(sweep, table, None)
    assert len(hunt.configurations) == hunt.count(OK) == 12
    assert {c.config for c in hunt.configurations} == {c.config for c in sweep.cells if not c.is_baseline}
    assert hunt.importances[0].axis == "training.lr"


def test_a_grid_is_no_search(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 1\n")
    assert search_histories(sweep, tabulate(sweep, []), tmp_path) == []


def test_shares_of_variance() -> None:
    generator = random.Random(7)
    n = 400
    x = [generator.random() for _ in range(n)]
    kind = [generator.choice(["a", "b"]) for _ in range(n)]
    idle = [generator.choice(["u", "v", "w"]) for _ in range(n)]
    some = [generator.choice(["s", "t"]) if k == "a" else None for k in kind]
    gaps = [3 * v + (1.0 if k == "b" else 0.0) for v, k in zip(x, kind, strict=True)]
    first, *rest = axis_importances({"kind": kind, "idle": idle, "x": x, "some": some, "same": ["z"] * n}, gaps)
    by = {one.axis: one for one in (first, *rest)}
    assert first.axis == "x"
    assert set(by) == {"kind", "idle", "x", "some"}
    assert by["x"].share > 0.6
    assert by["x"].rho > 0.7
    assert by["x"].groups == 5
    assert by["x"].best.startswith("0.00")
    assert (by["kind"].best, by["some"].n) == ("a", kind.count("a"))
    assert 0.05 < by["kind"].share < 0.4
    assert by["idle"].share < 0.02
    assert by["kind"].p_holm < 0.001 < 0.05 < by["idle"].p_holm
    assert math.isnan(by["kind"].rho)
    assert axis_importances({"x": x[:5]}, gaps[:5]) == []


def test_the_share_is_that_of_kruskal_and_wallis() -> None:
    from scipy.stats import kruskal

    groups = [[1.0, 4.0, 5.5, 9.0], [2.0, 3.0, 10.0], [6.0, 7.0, 8.0, 11.0, 12.0]]
    gaps = [g for group in groups for g in group]
    labels = [name for name, group in zip("abc", groups, strict=True) for _ in group]
    (one,) = axis_importances({"x": labels}, gaps)
    statistic, p = kruskal(*groups)
    n, k = len(gaps), 3
    assert one.share == pytest.approx(max(0.0, 1 - (1 - statistic / (n - 1)) * (n - 1) / (n - k)))
    assert one.p_holm == pytest.approx(p)
