"""Sweeps of one name in one results folder: each keeps its own files, through edits and moves of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dse.report import write_report
from dse.results.identity import identity, path_hash
from dse.results.manifest import Manifest, read_manifests, register_sweep
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.search import with_asked_cells
from dse.sweep import Sweep, load_sweep
from dse.text import slug
from dse.train import loop, width
from dse.train.options import RunOptions
from tests.run.oracle import fake_pack
from tests.run.search.common import QUIET, SEARCH, asked

GRID = "tasks: [{regression: {training: {steps: 4}}}]\nrecipes: [mxfp4]\nseeds: 1\n"
Write = Callable[..., Sweep]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(name: str, text: str = GRID) -> Sweep:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return load_sweep(path)

    return to


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def test_two_files_of_one_name_and_an_edit(write: Write, results: Path) -> None:
    first, second = write("a/same.yaml"), write("b/same.yaml", GRID.replace("seeds: 1", "seeds: [5]"))
    assert first.name == second.name == "same"
    assert identity(first, results) == "same", "and nothing is written"
    assert not results.exists()
    names = [register_sweep(first, results), register_sweep(second, results)]
    assert names[0] == "same"
    assert names[1].startswith("same-")
    assert [Manifest.of(own, results).title for own in (first, second)] == ["same", f"same ({names[1][5:]})"]
    edited = write("b/same.yaml", GRID.replace("seeds: 1", "seeds: [5, 6]"))
    assert [register_sweep(own, results) for own in (first, edited)] == names
    Manifest.of(edited, results).write(results)
    assert {m.identity: len(m.entries) for m in read_manifests(results, "same")} == {names[0]: 0, names[1]: 4}


def test_a_moved_file_is_known_by_its_text_and_a_copy_is_a_sweep_of_its_own(write: Write, results: Path) -> None:
    old = write("a/same.yaml")
    assert register_sweep(old, results) == "same"
    copy = write("b/same.yaml")
    assert register_sweep(copy, results) != "same"
    old.path.unlink()
    moved = write("c/same.yaml")
    assert identity(moved, results) == "same"
    Manifest.of(moved, results).write(results)
    assert identity(write("c/same.yaml", GRID + "training: {batch: 8}\n"), results) == "same", "edited after the move"


@pytest.mark.parametrize(
    ("named", "given", "fits"),
    [("a/same.yaml", GRID, True), ("elsewhere/same.yaml", GRID, True), ("elsewhere/same.yaml", "other", False)],
)
def test_a_manifest_from_before_is_found(write: Write, results: Path, named: str, given: str, fits: bool) -> None:
    """By the end of its path, which may have been relative to any folder, or by its text."""
    sweep = write("a/same.yaml")
    (results / "sweeps").mkdir(parents=True)
    old = {"name": "same", "text": given, "entries": [], "path": named}
    (results / "sweeps" / "same.json").write_text(json.dumps(old), encoding="utf-8")
    assert (identity(sweep, results) == "same") is fits
    assert read_manifests(results)[0].identity == "same"


def test_names_outside_ascii(write: Write, results: Path) -> None:
    sweeps = [write("测试.yaml"), write("größe α.yaml"), write("sweep.yaml")]
    assert [own.name for own in sweeps] == ["测试", "größe-α", "sweep"]
    assert [register_sweep(own, results) for own in sweeps] == ["测试", "größe-α", "sweep"]
    old = {"name": "sweep", "text": "tasks: []", "entries": [], "path": "动.yaml"}
    (results / "sweeps" / "sweep.json").write_text(json.dumps(old), encoding="utf-8")
    assert identity(write("动.yaml"), results) == "sweep", "as it was called before"
    assert identity(write("sweep.yaml"), results) != "sweep"


def test_slugs_fit_a_file_system(write: Write, results: Path) -> None:
    long, other = write(f"{'m' * 200}.yaml"), write(f"{'m' * 200}x.yaml")
    names = [register_sweep(own, results) for own in (long, other)]
    assert len(set(names)) == 2
    assert slug("A/b") == "A_b"
    assert len(slug("测" * 200).encode()) < 140
    assert register_sweep(write("1.yaml", GRID + "name: Same\n"), results) == "Same"
    assert register_sweep(write("2.yaml", GRID + "name: same\n"), results).startswith("same-"), (
        "macOS takes them for one"
    )


def test_searches_of_one_name_do_not_mix(write: Write, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "run_pack", fake_pack)
    monkeypatch.setattr(width, "measured_width", lambda trials, *_: len(trials))
    text = SEARCH.replace("name: hunt\n", "").replace("trials: 12", "trials: 6")
    one, two = write("a/same.yaml", text), write("b/same.yaml", text.replace("seed: 3", "seed: 4"))
    store = Store(results)
    for own in (one, two):
        summary = run_sweep(own, store, RunOptions("local", **QUIET))
        assert (summary.ran, summary.left) == (summary.total, 0) or summary.before <= 2, "baselines are shared"
    assert len(asked(store, one)) == len(asked(store, two)) == 6
    assert asked(store, one) != asked(store, two)
    more = write("a/same.yaml", text.replace("trials: 6", "trials: 9"))
    assert {c.uid for c in with_asked_cells(more, results).cells} == {
        c.uid for c in with_asked_cells(one, results).cells
    }
    run_sweep(more, store, RunOptions("local", **QUIET))
    assert asked(store, more)[:6] == asked(store, one)[:6]
    assert len(asked(store, more)) == 9
    assert len(asked(store, two)) == 6
    assert len(list((results / "searches").glob("same*.jsonl"))) == 2


def test_reports_of_one_name_do_not_replace_each_other(write: Write, tmp_path: Path) -> None:
    first, second = write("a/same.yaml"), write("b/same.yaml", GRID.replace("seeds: 1", "seeds: [5]"))
    out = tmp_path / "reports"
    paths = [write_report(own, [], out) for own in (first, second)]
    assert paths[0] == out / "same.html"
    assert paths[1] == out / f"same-{path_hash(second)}.html"
    assert paths[1].with_suffix("").is_dir()
    again = [write_report(own, [], out) for own in (write("a/same.yaml", GRID + "training: {batch: 8}\n"), second)]
    assert again == paths, "an edited file replaces its own"
    (out / "same.html").write_text("<html>as it was written before", encoding="utf-8")
    assert write_report(second, [], out) == out / "same.html"
