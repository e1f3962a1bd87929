"""The verbs `why` and `status`: everything about a trial, and how far a sweep is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dse.commands.status import status
from dse.commands.why import why
from dse.errors import UserError
from dse.results.claims import Claims
from dse.results.explain import differences
from dse.results.lookup import find_uids
from dse.results.manifest import Manifest
from dse.results.record import DIVERGED, FAILED, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import Sweep, config_of, load_sweep
from dse.train.options import RunOptions

Make = Callable[..., Record]


@pytest.fixture
def store(sweep: Sweep, tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    run_sweep(sweep, store, RunOptions("local", track=False, progress=False))
    return store


def said(capsys: pytest.CaptureFixture[str], word: str, store: Store) -> str:
    why(word, store.folder)
    return capsys.readouterr().out


def test_everything_about_a_trial(sweep: Sweep, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    cell = sweep.cells[2]
    record = store.records([cell.uid])[0]
    out = said(capsys, cell.uid[:6], store)
    lines = out.splitlines()
    assert lines[0] == f"trial     {cell.uid}: regression, mxfp4 *.block=16, seed 0"
    assert lines[1] == f"sweep     tiny ({sweep.path})"
    assert lines[2].startswith(f"status    ok: {record.metric:.6g} at the end, ")
    assert "fprop.lhs  block(element=e2m1" in out
    assert f"baseline  {cell.baseline_uid} (bf16), ok" in out
    assert "recipe.fprop.lhs" in out
    near = [line for line in lines if "(here " in line]
    assert len(near) == 2
    assert f"*.block 32 (here 16): {sweep.cells[3].uid}, ok" in near[0]
    assert f"seed 1 (here 0): {sweep.cells[4].uid}, ok" in near[1]
    assert "torch " in out
    assert "pack      width=" in out
    assert lines[-1].startswith(f"rerun     dse run {sweep.path} --only {cell.uid} --retry all --results ")
    assert said(capsys, "mxfp4 *.block=16@0", store) == out


def test_what_a_plugin_defines_is_shown_as_recorded(
    sweep: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands that answers print name no plugin: nothing of one is imported, and all the rest is there."""
    record = store.records([sweep.cells[2].uid])[0]
    recipe = record.trial["recipe"]
    lhs = {"block": {**recipe["fprop"]["lhs"]["block"], "statistic": "of_a_plugin"}}
    other = {**recipe, "fprop": {**recipe["fprop"], "lhs": lhs}}
    known = Store(store.folder.parent / "other")
    known.append(replace(record, trial={**record.trial, "recipe": other}))
    out = said(capsys, record.uid, known)
    assert "statistic=of_a_plugin" in out
    assert "not known here: recipe.fprop.lhs.statistic: unknown statistic 'of_a_plugin'" in out
    assert f"name that: dse why {record.uid} --plugin FILE" in out
    assert "training  steps=" in out
    assert "\nran       " in out


def test_failures_keep_their_traceback(
    sweep: Sweep, store: Store, make_record: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, diverged = sweep.cells[2], sweep.cells[3]
    other = Store(store.folder.parent / "other")
    run_sweep(replace(sweep, cells=sweep.cells[:2]), other, RunOptions("local", track=False, progress=False))
    known = {record.uid: record for record in store.records()}
    error = "Traceback (most recent call last):\n  File x\nValueError: no"
    other.append(
        replace(known[failed.uid], status=FAILED, metric=None, error=error),
        replace(known[diverged.uid], status=DIVERGED, metric=None, diverged_at=3, diverged_where="loss inf"),
    )
    run_sweep(sweep, other, RunOptions("local", track=False, progress=False))
    out = said(capsys, failed.uid, other)
    assert "status    crashed: ValueError: no" in out
    assert "error\n  Traceback (most recent call last):\n    File x\n  ValueError: no\n" in out
    assert f"--only {failed.uid} --retry failed" in out
    assert "diverged at step 3: loss inf" in out  # its neighbor
    assert "status    diverged: at step 3: loss inf" in said(capsys, diverged.uid, other)
    status(sweep.path, other.folder)
    out = capsys.readouterr().out
    assert out.startswith("tiny: 6 of 6 trials done, 4 ok, 1 diverged, 1 crashed\n")
    assert f"  crashed: {failed.uid} regression, mxfp4 *.block=16@0: ValueError: no\n" in out
    assert f"dse why {failed.uid}" in out


def test_a_trial_that_has_not_run_and_one_that_is_not_there(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "results")
    with pytest.raises(UserError, match="holds no results yet"):
        why("bf16@0", store.folder)
    run_sweep(sweep, store, RunOptions("local", only=["bf16@0"], track=False, progress=False))
    out = said(capsys, sweep.cells[2].uid, store)
    assert "status    has not run yet" in out
    assert out.splitlines()[-1].startswith(f"rerun     dse run {sweep.path} --only {sweep.cells[2].uid}")
    with pytest.raises(UserError, match=r"^no trial 'bf16@9'; did you mean 'bf16@\d'\?$"):
        why("bf16@9", store.folder)


def test_names_are_known_as_they_are_printed(
    sweep: Sweep, store: Store, make_record: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """A long configuration in the short form of `dse status`, and one that turned out to be another trial."""
    assert find_uids({"3f0c6a5e": ["nvfp4@0"]}, ["nvfp4@0:"]) == {"3f0c6a5e"}
    path = sweep.path.with_name("long.yaml")
    long = "{base: mxfp4, G.rounding: stochastic}"
    grid = "{wgrad.rotation: [none, {hadamard: {size: 16, signs: random}}], G.rounding: [nearest_even, stochastic]}"
    task = "{regression: {training: {steps: 4, batch: 16}}}"
    text = f"tasks: [{task}]\nrecipes: [{{a name of some length: {long}}}, mxfp4]\nseeds: 1\ngrid: {grid}\n"
    path.write_text(text, encoding="utf-8")
    other = load_sweep(path)
    lost = next(cell for cell in other.cells if "hadamard" in cell.config)
    error = {"status": FAILED, "metric": None, "error": "ValueError: no"}
    store.append(make_record(lost.uid, config=lost.config, trial=lost.trial.spec, **error))
    Manifest.of(other, store.folder).write(store.folder)
    status(path, store.folder)
    line = next(line for line in capsys.readouterr().out.splitlines() if "crashed: " in line)
    printed = line.partition("regression, ")[2].partition(": ValueError")[0]
    assert "…" in printed
    assert said(capsys, printed, store).startswith(f"trial     {lost.uid}")
    merged = next(cell for cell in other.cells if cell.also)
    name = f"{config_of(merged.also[0])}@0"
    assert said(capsys, name, store).startswith(f"trial     {merged.uid}")


def test_differences() -> None:
    assert list(differences({"a": {"b": 1}, "c": [2]}, {"a": {"b": 1, "d": 4}, "c": [3]})) == [
        ("a.d", None, 4),
        ("c", [2], [3]),
    ]


def test_watching_ends_with_the_sweep(
    sweep: Sweep, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, live = store.records(), Store(tmp_path / "live")
    live.append(*records[:2])
    claims = Claims(live.folder)
    with claims.lock():
        claims.claim([record.uid for record in records])

    def finish() -> None:
        time.sleep(0.4)
        live.append(*records[2:4])
        time.sleep(0.4)
        live.append(*records[4:])

    thread = threading.Thread(target=finish)
    thread.start()
    status(sweep.path, live.folder, watch=True, every=0.05)
    thread.join()
    claims.close()
    out = capsys.readouterr().out
    for count in (2, 4, 6):
        assert f"tiny: {count} of 6 trials done" in out
    assert ", 4 trials in its hands" in out
    assert out.count("tiny: ") == 3
