"""The parts of a search: what it is told, what it asks for, its journal, and its export to Optuna."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest

from dse.commands import sweeps
from dse.errors import UserError
from dse.results.record import DIVERGED, FAILED, OK
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.search import journal, search_progress
from dse.run.search.export import export
from dse.run.search.objectives import Mark, values
from dse.run.search.study import AskRequest, Observation, Parameters, ask, rebuild
from dse.sweep import Assignment, Cell, Sweep
from dse.train.options import RunOptions
from tests.run.search.common import QUIET, SEARCH, asked


def test_what_a_search_is_told(load: Callable[..., Sweep]) -> None:
    space = load().space
    assert space
    cells = [cell_of(space.from_unit_cube("regression", [0.3] * 4), load(), seed) for seed in (0, 1)]
    bases = {c.baseline_uid: Mark(OK, 1.0, 5.0) for c in cells}

    def told(*marks: Mark, **other: Mark) -> tuple[float, ...] | None:
        return values(cells, {**bases, **dict(zip((c.uid for c in cells), marks, strict=True)), **other}, ["gap"])

    good, bad, broken = Mark(OK, 1.5, 5.0), Mark(DIVERGED, None, 6.0), Mark(FAILED, None, None)
    assert told(good, good) == (0.5,)
    assert told(good, bad) == (2.25,)  # as bad as the baseline before training: 4
    assert told(bad, bad) == (4.0,)
    assert told(good, broken) == (0.5,)
    assert told(broken, broken) is None
    assert told(good, bad, **{cells[0].baseline_uid: bad}) == (4.0,)
    assert values(cells, {**bases, **{c.uid: broken for c in cells}}, ["gap", "overhead"]) is None
    both = values(cells, {**bases, **{c.uid: good for c in cells}}, ["overhead", "gap"])
    assert both
    assert both[1] == 0.5
    assert 0 < both[0] < 300


def cell_of(assignment: Assignment, sweep: Sweep, seed: int) -> Cell:
    from dse.sweep import cell_at

    assert sweep.space
    cell = cell_at(sweep.space, assignment, seed)
    assert isinstance(cell, Cell)
    return cell


def test_a_batch_has_no_repetitions_and_rebuilds_exactly(load: Callable[..., Sweep]) -> None:
    sweep = load()
    assert sweep.space
    space, search = sweep.space, sweep.search
    told: list[Observation] = []
    for _ in range(6):
        seen = {journal.key_of(t.assignment) for t in told}
        request = AskRequest("regression", told, seen, 5, lambda _: True)
        batch = ask(space, search, request)
        assert batch == ask(space, search, request)
        assert len({journal.key_of(a) for a in batch} | seen) == len(told) + 5
        told += [Observation(a, (float(a["training.lr"] or 0), 1.0) if i else None) for i, a in enumerate(batch)]
    study = rebuild(space, search, told)
    parameters = Parameters(space)
    for trial, item in zip(study.trials, told, strict=True):
        assert set(trial.params) == {parameters.names[d] for d in space.choices_of(item.assignment)}
        assert trial.state.name == ("FAIL" if item.values is None else "COMPLETE")


def test_a_damaged_journal(load: Callable[..., Sweep], store: Store) -> None:
    sweep = load()
    assert sweep.space
    a, b = (sweep.space.from_unit_cube("regression", [share] * 4) for share in (0.2, 0.7))
    assert journal.ask(store.folder, "hunt", sweep.space, "regression", 0, [a]) == [a]
    path = store.folder / "searches" / "hunt.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write('not json\n{"a": 1}\n[3, {"task": "nowhere"}]\n[{"task": "regr')
    assert journal.ask(store.folder, "hunt", sweep.space, "regression", 0, [b]) == [a]  # somebody was first
    assert journal.ask(store.folder, "hunt", sweep.space, "regression", 1, [b]) == [b]
    assert asked(store, sweep) == [a, b]
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1]) == [dict(b)]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("method", ["tpe", "qmc"])
def test_the_studies_are_exported(
    load: Callable[..., Sweep],
    store: Store,
    method: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = SEARCH if method == "tpe" else SEARCH.replace("tpe", "qmc").replace(", batch: 3, startup: 6", "")
    sweep = load(text)
    with pytest.raises(UserError, match="no whole configuration with results"):
        export(sweep, store)
    run_sweep(sweep, store, RunOptions("local", **QUIET))
    path, count = export(sweep, store)
    assert export(sweep, store) == (path, 12)  # anew, not twice
    assert count == 12
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="hunt/regression", storage=storage)
    assert len(study.trials) == 12
    assert len(study.best_trials) >= 1
    assert study.metric_names == ["gap", "overhead"]
    records = {record.uid: record for record in store.records()}
    assignment = asked(store, sweep)[0] if method == "tpe" else sweep.space.assignment(sweep.cells[-1].labels)  # type: ignore[union-attr]
    gaps = []
    for seed in (0, 1):
        cell = cell_of(assignment, sweep, seed)
        gaps.append((records[cell.uid].metric or 0) - (records[cell.baseline_uid].metric or 0))
    assert any(t.values[0] == pytest.approx(sum(gaps) / 2) for t in study.trials)
    served: list[Sequence[str]] = []

    def serve(command: Sequence[str], on_ready: Callable[[], None], **_: object) -> int:
        served.append(command)
        on_ready()
        return 0

    monkeypatch.setattr("dse.run.tracking.server.serve", serve)
    monkeypatch.setattr("dse.run.tracking.server.in_use", lambda port: False)
    sweeps.dashboard(store.folder, 5000, False, sweep.path)
    out = capsys.readouterr().out
    assert f"12 configurations in {path}" in out
    assert "Optuna: http://127.0.0.1:5000/dashboard" in out
    ((program, *rest),) = served
    assert Path(program).name == "optuna-dashboard"
    assert rest == [str(path), "--host", "127.0.0.1", "--port", "5000"]
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    sweeps.dashboard(store.folder, 5000, False, sweep.path)
    assert "pip install 'fp4-dse[optuna-dashboard]', then: dse dashboard" in capsys.readouterr().out
    assert len(served) == 1


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("line", [0, 1, -1])
def test_what_a_damaged_line_has_asked_for_is_known_from_the_manifest(
    load: Callable[..., Sweep], store: Store, line: int
) -> None:
    """The search is as long as it is meant to be, nothing is asked for twice, and the damage is said."""
    sweep = load()
    run_sweep(sweep, store, RunOptions("local", **QUIET))
    before = asked(store, sweep)
    path = store.folder / "searches" / "hunt.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    count = len(json.loads(lines[line]))
    lines[line] = lines[line].replace(b"task", b"ta\x00k")
    path.write_bytes(b"".join(lines))
    assert sorted(map(journal.key_of, asked(store, sweep))) == sorted(map(journal.key_of, before))
    assert f"a damaged line in {path}: {count} configurations are known" in search_progress(sweep, store.folder)
    summary = run_sweep(load(SEARCH.replace("trials: 12", "trials: 15")), store, RunOptions("local", **QUIET))
    assert (summary.ran, summary.total) == (6, 32)
    assert any(note.startswith("a damaged line in ") for note in summary.notes)
    path.with_name("hunt.jsonl").write_bytes(b"".join(lines))
    (store.folder / "sweeps" / "hunt.json").unlink()
    assert "is unknown, and asked for again" in search_progress(sweep, store.folder)
