"""What the Ray executor does when actors die, complain, or never start; Ray itself is played by a script.

tests/crash does the same with real processes.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dse.errors import UserError
from dse.results.outcome import outcome, reason
from dse.results.record import FAILED, OK, Record
from dse.run.executors import cluster
from dse.run.executors.attempts import Attempts
from dse.run.executors.memory_pressure import MemoryPressure, death_message, is_memory_kill, summarize
from dse.run.executors.pool import Pool, _Call
from dse.run.queue.pack_queue import PackQueue
from dse.sweep import Cell, Sweep
from dse.train.options import RunOptions

Make = Callable[..., Record]
DIES = "The actor died unexpectedly.\nworker exit: killed by signal 9"
NODE_DIES = "The actor died because its node has died. Node Id: 1234"
RAY_DIES = "The actor is dead because its owner has died.\nWorker exit detail: Owner's node has crashed."
PRESSED = (
    "Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.0.1) was 23.9GB / 24GB.\n"
    "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io. To disable worker "
    "killing, set the environment variable `RAY_memory_monitor_refresh_ms` to zero."
)
DEATHS = (DIES, NODE_DIES, RAY_DIES, PRESSED)


class FakeRay:
    """Answers method calls in the order they were made. ``script(uid, attempt)`` is an attempt's outcome."""

    def __init__(self, script: Callable[[str, int], Any]) -> None:
        self.script, self.attempts, self.started, self.killed = script, dict[str, int](), 0, 0
        self.packs, self.fits = list[list[str]](), 2
        self.starts, self.death = True, DIES
        error = type("RayError", (Exception,), {})
        self.exceptions = types.SimpleNamespace(RayError=error)

    def remote(self, **_: object) -> Any:
        make = types.SimpleNamespace(options=lambda **_: types.SimpleNamespace(remote=self._actor))
        return lambda _cls: make

    def _actor(self, *_args: object) -> Any:
        self.started += 1
        ready = types.SimpleNamespace(remote=lambda: Call(None if self.starts else self.death))
        asked = types.SimpleNamespace(remote=lambda _stopping: Call((0, 0.0, [], [])))
        progress = types.SimpleNamespace(options=lambda **_: asked)
        attempt = types.SimpleNamespace(remote=self._attempt)
        return types.SimpleNamespace(ready=ready, attempt=attempt, progress=progress)

    def _attempt(self, trials: Any, _configs: Any, width: int | None, _target: Any, _splits: Any) -> Any:
        trials = trials[: width or self.fits]
        self.packs.append([trial.uid for trial in trials])
        outcomes = []
        for trial in trials:
            self.attempts[trial.uid] = self.attempts.get(trial.uid, 0) + 1
            outcomes.append(self.script(trial.uid, self.attempts[trial.uid]))
        complaint = next((outcome for outcome in outcomes if not isinstance(outcome, Record)), None)
        return Call(outcomes if complaint is None else complaint)

    def wait(self, refs: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return refs[:num_returns], refs[num_returns:]

    def get(self, call: Any) -> Any:
        if call.outcome in DEATHS:
            raise self.exceptions.RayError(call.outcome)
        return call.outcome

    def kill(self, _actor: Any, no_restart: bool) -> None:
        self.killed += 1


class Call:
    """A reference to a method call's outcome."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, sweep: Sweep) -> Callable[..., Any]:
    def start(
        script: Callable[[str, int], Any], starts: bool = True, times: int = 1, death: str = DIES
    ) -> tuple[FakeRay, list[tuple[Cell, Record]]]:
        fake, found = FakeRay(script), list[tuple[Cell, Record]]()
        fake.starts, fake.death = starts, death
        monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
        stop = threading.Event()

        def on_records(pack: Sequence[tuple[Cell, Record]]) -> None:
            found.extend(pack)
            if any(record.error == "stop" for _, record in pack):
                stop.set()

        queue = PackQueue(sweep.cells * times, 32, workers=2)
        pool = Pool(RunOptions(), Attempts(RunOptions(), queue, on_records, 2), stop)
        try:
            pool.run(lambda busy, under_way: None)
        finally:
            pool.close()
        return fake, found

    return start


def test_every_cell_once(play: Callable[..., Any], sweep: Sweep, make_record: Make) -> None:
    """Two actors take three cells each; two fit a pack, so each gives one back."""
    fake, found = play(lambda uid, attempt: make_record(uid))
    uids = [cell.uid for cell in sweep.cells]
    assert sorted(record.uid for _, record in found) == sorted(uids)
    assert all(cell.uid == record.uid for cell, record in found)
    assert fake.packs == [uids[:2], uids[3:5], [uids[2]], [uids[5]]]
    assert fake.started == fake.killed == 2


def test_poison_is_found_by_halves_and_gets_a_second_attempt(
    play: Callable[..., Any], sweep: Sweep, make_record: Make
) -> None:
    poison, unlucky = sweep.cells[1].uid, sweep.cells[3].uid

    def script(uid: str, attempt: int) -> Any:
        return DIES if uid == poison or (uid == unlucky and attempt == 1) else make_record(uid)

    fake, found = play(script)
    assert sorted(r.uid for _, r in found) == sorted(cell.uid for cell in sweep.cells)
    status = {record.uid: record.status for _, record in found}
    assert status == {cell.uid: FAILED if cell.uid == poison else OK for cell in sweep.cells}
    assert fake.packs.count([poison]) == 2
    (lost,) = [record for _, record in found if record.uid == poison]
    assert lost.error is not None
    assert "the worker died 2 times" in lost.error
    assert "killed by signal 9" in lost.error
    assert (lost.config, lost.trial) == (sweep.cells[1].config, sweep.cells[1].trial.spec)
    assert fake.started == fake.killed


def test_a_node_that_dies_is_no_attempt_of_its_trials(
    play: Callable[..., Any], sweep: Sweep, make_record: Make
) -> None:
    """Every trial's node dies more often than a trial may die alone."""
    fake, found = play(lambda uid, attempt: make_record(uid) if attempt > 3 else NODE_DIES)
    assert sorted(r.uid for _, r in found) == sorted(cell.uid for cell in sweep.cells)
    assert {record.status for _, record in found} == {OK}
    assert all(len(pack) == 2 for pack in fake.packs[:2])  # and no pack is halved for it


def test_without_ray_here_the_sweep_ends_at_once(play: Callable[..., Any], make_record: Make) -> None:
    with pytest.raises(UserError, match=r"Ray has died on this machine; .*: Worker exit detail: Owner's node has"):
        play(lambda uid, attempt: RAY_DIES)


def test_a_user_error_stops_the_sweep(play: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^data file x is missing$"):
        play(lambda uid, attempt: "data file x is missing")


def test_stop_begins_nothing_new(play: Callable[..., Any], make_record: Make) -> None:
    _, found = play(lambda uid, attempt: make_record(uid, error="stop"))
    assert len(found) == 4  # the pack that was under way beside it is finished


def test_workers_that_always_die_end_the_sweep(play: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"Ray workers died one after the other; the last: worker exit: killed by"):
        play(lambda uid, attempt: DIES, times=10)


def test_workers_that_cannot_start_end_the_sweep(play: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="3 Ray workers died"):
        play(lambda uid, attempt: None, starts=False)


def test_waiting_for_workers_has_an_end(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, make_record: Make
) -> None:
    monkeypatch.setattr(FakeRay, "wait", lambda self, refs, num_returns, timeout: ([], refs))
    monkeypatch.setattr(cluster, "START_TIMEOUT", 0.0)
    with pytest.raises(UserError, match="no Ray worker has started"):
        play(lambda uid, attempt: make_record(uid))


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.run.executors.memory_pressure.FIRST", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_memory_pressure_for_a_while_costs_nothing(play: Callable[..., Any], sweep: Sweep, make_record: Make) -> None:
    """Every worker is ended twice: packs are halved, trials alone are tried again, and all have a result."""
    _, found = play(lambda uid, attempt: make_record(uid) if attempt > 2 else PRESSED)
    assert sorted(r.uid for _, r in found) == sorted(cell.uid for cell in sweep.cells)
    assert {record.status for _, record in found} == {OK}


@pytest.mark.usefixtures("no_pause")
def test_a_trial_that_fills_the_memory_is_found(play: Callable[..., Any], sweep: Sweep, make_record: Make) -> None:
    poison = sweep.cells[1].uid
    _, found = play(lambda uid, attempt: PRESSED if uid == poison else make_record(uid))
    assert sorted(r.uid for _, r in found) == sorted(cell.uid for cell in sweep.cells)
    (lost,) = [record for _, record in found if record.status == FAILED]
    assert (lost.uid, outcome(lost)) == (poison, "out of memory")
    assert reason(lost).startswith("out of memory: Ray ended its worker because the machine was low on memory")
    assert lost.error is not None
    assert "\n" not in lost.error
    assert "https" not in lost.error


@pytest.mark.usefixtures("no_pause")
def test_memory_pressure_without_an_end_is_said_in_a_line_of_ours(play: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^37 workers in a row were ended because the machine is low on memory; free"):
        play(lambda uid, attempt: PRESSED, times=20)
    with pytest.raises(UserError, match=r"^37 workers in a row were ended because"):
        play(lambda uid, attempt: None, starts=False, death=PRESSED)


def test_pauses_grow_and_end() -> None:
    pressure = MemoryPressure(2)
    assert not pressure.pausing
    for excused in (True, True, True, False):
        pressure.on_kill()
        assert pressure.pausing
        assert pressure.excuses_last is excused
    pressure.reset()
    assert not pressure.pausing


def test_what_is_said_of_a_dead_worker_is_one_line_without_advice() -> None:
    text = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: Actor\nThe actor is dead because its "
        "worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits with connection "
        "error code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer"
    )
    assert summarize(text) == "Worker exit detail: Worker exits with connection error code 2. End of file"
    assert death_message(2, text).splitlines() == ["the worker died 2 times while it ran this trial:", summarize(text)]
    assert not is_memory_kill(text), "the advice names the OOM killer whatever has happened"
    assert is_memory_kill(PRESSED)
    assert is_memory_kill("Worker exit type: NODE_OUT_OF_MEMORY")


def test_what_an_actor_had_finished_is_stored_while_it_runs_and_kept_when_it_dies(
    monkeypatch: pytest.MonkeyPatch, sweep: Sweep, make_record: Make
) -> None:
    fake, found = FakeRay(lambda uid, attempt: make_record(uid)), list[str]()
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]

    def on_records(pack: Sequence[tuple[Cell, Record]]) -> None:
        found.extend(record.uid for _, record in pack)

    queue = PackQueue(sweep.cells, 6, width=6)
    attempts = Attempts(RunOptions(), queue, on_records, workers=1)
    pool = Pool(RunOptions(), attempts, threading.Event())
    attempt = attempts.start()
    assert attempt is not None
    uids = [cell.uid for cell in attempt.item.cells]
    call, ref = _Call(object(), attempt), Call(DIES)
    call.progress = Call((6, 3.0, [], [make_record(uid) for uid in uids[:2]]))
    pool._calls[ref] = call
    pool._poll_progress()
    assert found == uids[:2], "the pack is still under way"
    pool._on_answer(ref, pool._calls.pop(ref))
    rest = [queue.take(), queue.take()]
    assert [cell.uid for half in rest if half for cell in half.cells] == uids[2:]
    why = "a pack of 4 trials was split in halves: its worker died: worker exit: killed by signal 9"
    assert all(half is not None and half.splits == (why,) for half in rest)
