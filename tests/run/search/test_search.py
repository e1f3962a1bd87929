"""Searches that learn from results: everything once, in the same order, whatever interrupts or shares the work."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dse.commands import sweeps
from dse.commands.status import status
from dse.errors import UserError
from dse.results.manifest import read_manifests
from dse.results.record import FAILED, Record
from dse.results.store import Store
from dse.run import engine
from dse.run.engine import run_sweep
from dse.run.search import SearchLoop, all_asked, journal, search_progress, with_asked_cells, with_next_cells
from dse.sweep import Sweep
from dse.train import loop
from dse.train.options import RunOptions
from tests.run.oracle import fake_pack
from tests.run.search.common import QUIET, SEARCH, asked

NSGA2 = "{method: nsga2, trials: 12, batch: 3, population: 4, seed: 3}"


def test_a_search_runs_to_its_end_and_then_nothing(
    load: Callable[..., Sweep], store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep = load()
    assert len(with_next_cells(sweep, store).cells) == 6 * 2 + 2
    assert not store.folder.exists()
    summary = run_sweep(sweep, store, RunOptions("local", **QUIET))
    assert (summary.total, summary.ran, summary.ok, summary.left) == (26, 26, 26, 0)
    found = with_asked_cells(sweep, store.folder)
    assert {cell.uid for cell in found.cells} == set(store.done())
    assert len(asked(store, sweep)) == len({journal.key_of(a) for a in asked(store, sweep)}) == 12
    assert [len(m.entries) for m in read_manifests(store.folder, "hunt")] == [26]
    assert search_progress(sweep, store.folder) == "12 of 12 configurations asked for so far"
    assert run_sweep(sweep, store, RunOptions("ray")).ran == 0

    sweeps.plan(sweep.path, store.folder, None, 1)
    status(sweep.path, store.folder, watch=True)
    sweeps.report([sweep.path], store.folder, tmp_path / "reports")
    out = capsys.readouterr().out
    assert "26 trials, 2 of them baselines: 26 done, 0 to run" in out
    assert "hunt: 26 of 26 trials done" in out
    assert f"26 of 26 trials in {tmp_path / 'reports' / 'hunt.html'}" in out


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_an_interrupted_search_asks_for_what_an_undisturbed_one_does(
    load: Callable[..., Sweep], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SEARCH if method == "tpe" else SEARCH.replace(SEARCH.splitlines()[7], f"search: {NSGA2}")
    sweep, calm, rough = load(text), Store(tmp_path / "calm"), Store(tmp_path / "rough")
    assert sweep.search.method == method
    run_sweep(sweep, calm, RunOptions("local", **QUIET))

    for number in range(1, 6):  # killed in the middle of a batch, once between two, and with a lost journal
        ran = 0

        def dies(*args: Any, number: int = number) -> list[Record]:
            nonlocal ran
            ran += 1
            if ran > number % 3:
                raise KeyboardInterrupt
            return fake_pack(*args)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "run_pack", dies)
            patch.setattr(engine, "make_executor", _narrow)
            with pytest.raises(KeyboardInterrupt):
                run_sweep(sweep, rough, RunOptions("local", **QUIET))
        if number == 5:
            (rough.folder / "searches" / "hunt.jsonl").unlink()
    run_sweep(sweep, rough, RunOptions("local", **QUIET))
    assert asked(rough, sweep) == asked(calm, sweep)
    assert {r.uid: r.metric for r in rough.records()} == {r.uid: r.metric for r in calm.records()}


def _narrow(*args: Any) -> Any:
    from dse.run.executors import make_executor
    from dse.run.executors.local import LocalExecutor

    class Narrow(LocalExecutor):
        max_width = 4

    made = make_executor(*args)
    assert isinstance(made, LocalExecutor)
    return Narrow(made._options)


@pytest.mark.usefixtures("fast")
def test_the_order_of_asking_is_the_same_in_every_process(load: Callable[..., Sweep], store: Store) -> None:
    sweep = load()
    run_sweep(sweep, store, RunOptions("local", **QUIET))
    code = f"""
from pathlib import Path
from dse.run import train
from tests.run.oracle import fake_pack
train.run_pack = fake_pack
from dse.run.engine import run_sweep
from dse.results.store import Store
from dse.sweep import load_sweep
from dse.train.options import RunOptions
run_sweep(load_sweep(Path({str(sweep.path)!r})), Store(Path({str(store.folder / "other")!r})),
    RunOptions("local", track=False, progress=False))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], timeout=120)
    name = Path("searches") / "hunt.jsonl"
    assert (store.folder / name).read_text(encoding="utf-8") == (store.folder / "other" / name).read_text(
        encoding="utf-8"
    )


@pytest.mark.usefixtures("fast")
def test_two_drivers_share_a_search(load: Callable[..., Sweep], store: Store) -> None:
    """Both ask for the same; who comes second takes what the first has asked for."""
    sweep = load()
    mine, other = SearchLoop(sweep, store.folder), SearchLoop(sweep, store.folder)
    mine.catch_up(lambda uids: store.records(uids))
    other.catch_up(lambda uids: store.records(uids))
    assert [c.uid for c in mine.sweep.cells] == [c.uid for c in other.sweep.cells]
    assert len(asked(store, sweep)) == 6
    assert mine.ask() is None
    records = fake_pack([c.trial for c in mine.sweep.cells])
    mine.tell(records[:-1])
    assert mine.ask() is None  # a result is missing
    mine.tell(records[-1:])
    new = mine.ask()
    assert new is not None
    assert len(new) == 3 * 2
    other.tell(reversed(records))
    assert [c.uid for c in other.ask() or ()] == [c.uid for c in new]
    assert len(asked(store, sweep)) == 9


@pytest.mark.usefixtures("fast")
def test_a_changed_file_goes_on_from_what_is_known(load: Callable[..., Sweep], store: Store) -> None:
    first = run_sweep(load(), store, RunOptions("local", **QUIET))
    more = load(SEARCH.replace("trials: 12", "trials: 15"))
    assert run_sweep(more, store, RunOptions("local", **QUIET)).ran == 3 * 2
    seeds = load(SEARCH.replace("trials: 12", "trials: 15").replace("seeds: 2", "seeds: 3"))
    assert run_sweep(seeds, store, RunOptions("local", **QUIET)).ran == 15 + 1
    other = load(SEARCH.replace("seeds: 2", "seeds: 3").replace("[1e-4, 1e-2]", "[1e-3, 1e-2]"))
    kept = len(asked(store, other))
    assert 0 < kept < 15
    assert all_asked(other, store.folder) == (kept >= 12)
    run_sweep(other, store, RunOptions("local", **QUIET))
    assert len(asked(store, other)) == max(12, kept)
    assert first.total == 26


@pytest.mark.usefixtures("fast")
def test_a_space_that_is_used_up_ends_the_search(load: Callable[..., Sweep], store: Store) -> None:
    text = """
        name: small
        tasks: [{regression: {training: {steps: 4, batch: 16}}}]
        recipes: [bf16, mxfp4, nvfp4]
        seeds: 1
        search: {method: METHOD, trials: 50, batch: 2, objectives: [gap]}
        grid: {G.rounding: [nearest_even, toward_zero], W.block: [8, 16, 32]}
        exclude: [{recipe: nvfp4, W.block: 8}]
    """
    everything = load(text.replace("METHOD", "grid").replace(", trials: 50, batch: 2, objectives: [gap]", ""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = run_sweep(load(text.replace("METHOD", "tpe, startup: 3")), store, RunOptions("local", **QUIET))
    assert set(store.done()) == {cell.uid for cell in everything.cells}
    assert summary.left == 0


@pytest.mark.usefixtures("fast")
def test_tasks_are_searched_on_their_own_and_learn(load: Callable[..., Sweep], store: Store) -> None:
    """Both tasks begin with the same configurations; TPE then spends more of its trials where the gap is small."""
    text = SEARCH.replace("trials: 12, batch: 3, startup: 6", "trials: 40, batch: 4, startup: 12, objectives: [gap]")
    sweep = load(text.replace("tasks:", "tasks:\n  - {regression: {noise: 0.5, training: {steps: 4, batch: 16}}}"))
    run_sweep(sweep, store, RunOptions("local", **QUIET))
    assert sweep.space
    first, second = journal.asked(store.folder, sweep.name, sweep.space).values()
    assert len(first) == len(second) == 40
    assert [{**a, "task": ""} for a in first[:12]] == [{**a, "task": ""} for a in second[:12]]
    for found in (first, second):
        far = [abs(math.log10(float(a["training.lr"] or 0)) + 3) for a in found]  # the oracle's optimum is 1e-3
        assert sorted(far[12:])[14] < 0.4  # random ones: 0.5


def test_failed_configurations_do_not_stop_a_search(
    load: Callable[..., Sweep], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some_fail(trials: Any, *args: Any) -> list[Record]:
        records = fake_pack(trials, *args)
        return [
            Record(**{**vars(r), "status": FAILED, "metric": None, "error": "boom"}) if r.recipe == "nvfp4" else r
            for r in records
        ]

    monkeypatch.setattr(loop, "run_pack", some_fail)
    summary = run_sweep(load(), store, RunOptions("local", **QUIET))
    assert summary.total == 26
    assert summary.failed > 0
    monkeypatch.setattr(loop, "run_pack", fake_pack)
    again = run_sweep(load(), store, RunOptions("local", retry="failed", **QUIET))
    assert (again.ran, again.failed) == (summary.failed, 0)


def test_an_empty_search_has_no_report(load: Callable[..., Sweep], store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has asked for nothing yet; run: dse run"):
        sweeps.report([load().path], store.folder, tmp_path)
