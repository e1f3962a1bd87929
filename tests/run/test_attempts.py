"""Attempts without Ray: bisection, deaths in a row, time limits and memory pressure, by a clock that the test sets."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.results.outcome import outcome
from dse.results.record import FAILED, OK, Record
from dse.run.executors.attempts import GRACE, MOST_DEATHS, Attempt, Attempts
from dse.run.executors.worker_log import FILE
from dse.run.queue.pack_queue import PackQueue
from dse.sweep import Cell, Sweep
from dse.train.options import RunOptions

Make = Callable[..., Record]
DIES = "The actor died unexpectedly.\nworker exit: killed by signal 9"
NODE_DIES = "The actor died because its node has died. Node Id: 1234"
DRIVER_NODE_DIES = "The actor is dead because its owner has died.\nWorker exit detail: Owner's node has crashed."
LOW_MEMORY = "Task was killed due to the node running low on memory."


@dataclass
class Run:
    """A run of ``workers`` at a time ``now``, and the records that it has stored."""

    cells: Sequence[Cell]
    workers: int = 1
    options: RunOptions = field(default_factory=RunOptions)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.stored: list[Record] = []
        self.queue = PackQueue(self.cells, 32, self.workers, width=32)
        self.attempts = Attempts(self.options, self.queue, self._store, self.workers, lambda: self.now)

    def _store(self, found: Sequence[tuple[Cell, Record]]) -> None:
        assert all(cell.uid == record.uid for cell, record in found)
        self.stored += [record for _, record in found]

    def start(self) -> Attempt:
        attempt = self.attempts.start()
        assert attempt is not None
        return attempt


def uids(attempt: Attempt) -> list[str]:
    return [cell.uid for cell in attempt.item.cells]


def test_a_trial_that_kills_its_worker_is_found_by_halves(sweep: Sweep, tmp_path: Path, make_record: Make) -> None:
    run, poison, packs = Run(sweep.cells, options=RunOptions(results=tmp_path)), sweep.cells[3], list[list[str]]()
    while not run.queue.exhausted():
        attempt = run.start()
        packs.append(uids(attempt))
        run.now += 7
        if poison.uid in packs[-1]:
            run.attempts.fail(attempt, DIES)
        else:
            run.attempts.finish(attempt, [make_record(uid) for uid in packs[-1]])
    own = [cell.uid for cell in sweep.cells]
    assert packs == [own, own[:3], own[3:], own[3:4], own[3:4], own[4:]]
    assert [(record.uid, record.status) for record in run.stored] == [
        *((uid, OK) for uid in own[:3]),
        (poison.uid, FAILED),
        *((uid, OK) for uid in own[4:]),
    ]
    blamed = run.stored[3]
    assert blamed.error == "the worker died 2 times while it ran this trial:\nworker exit: killed by signal 9"
    assert (blamed.seconds, blamed.config, blamed.trial) == (7, poison.config, poison.trial.spec)
    why = "its worker died: worker exit: killed by signal 9"
    assert blamed.pack == {"split_because": [f"a pack of {n} trials was split in halves: {why}" for n in (6, 3)]}
    lines = (tmp_path / FILE).read_text(encoding="utf-8").splitlines()
    assert lines == [f"a pack of {n} trials is tried again in halves: {why}" for n in (6, 3)]


def test_a_failure_is_recorded_without_the_train_loop(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "name: s\ntasks: [{regression: {training: {steps: 4}}}]\nrecipes: [bf16]\n", encoding="utf-8"
    )
    code = f"""
import sys
from pathlib import Path
from dse.run.executors.attempts import Attempts
from dse.run.queue.pack_queue import PackQueue
from dse.sweep import load_sweep
from dse.train.options import RunOptions
queue, found = PackQueue(load_sweep(Path({str(tmp_path / "s.yaml")!r})).cells, 1), []
attempts = Attempts(RunOptions(), queue, found.extend, 1)
while not queue.exhausted():
    attempts.fail(attempts.start(), "killed")
assert found and all(record.versions["torch"] for _, record in found), found
print(sorted(name for name in sys.modules if name.startswith("dse.train.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert "dse.train.options" in done.stdout
    assert not {"dse.train.loop", "dse.train.pack_run", "dse.train.provenance"} & set(eval(done.stdout)), done.stdout


def test_an_attempt_is_overdue_once_and_counts_from_its_beginning(sweep: Sweep) -> None:
    run = Run(sweep.cells[:1], options=RunOptions(timeout=3.0))
    for _ in range(2):
        attempt = run.start()
        run.now += 500  # until its worker has started
        run.attempts.begin(attempt)
        run.now += 3 + GRACE
        run.attempts.begin(attempt)
        assert not run.attempts.overdue(attempt)
        run.now += 1
        assert run.attempts.overdue(attempt)
        assert not run.attempts.overdue(attempt), "it is killed once"
        run.attempts.fail(attempt, LOW_MEMORY)  # whatever Ray says of an actor that was killed
        assert not run.attempts.pausing
    (record,) = run.stored
    assert record.error == "timed out: no answer in 124 s, 3 s are allowed"
    assert (outcome(record), record.seconds) == ("timed out", 4 + GRACE)
    assert run.queue.exhausted()


def test_a_pack_may_take_the_time_of_all_its_trials(sweep: Sweep) -> None:
    run = Run(sweep.cells, options=RunOptions(timeout=3.0))
    attempt = run.start()
    run.now += 6 * 3 + GRACE
    assert not run.attempts.overdue(attempt)
    run.now += 1
    assert run.attempts.overdue(attempt)
    forever = Run(sweep.cells)
    attempt = forever.start()
    forever.now += 1e9
    assert not forever.attempts.overdue(attempt), "without a limit"


def test_records_of_a_pack_that_dies_are_kept(sweep: Sweep, make_record: Make) -> None:
    run = Run(sweep.cells)
    attempt = run.start()
    own = uids(attempt)
    for _ in range(2):
        attempt.add([make_record(own[1]), make_record(own[4])])
    assert [record.uid for record in run.stored] == [own[1], own[4]]
    run.attempts.fail(attempt, DIES)
    assert [uids(run.start()) for _ in range(2)] == [[own[0], own[2]], [own[3], own[5]]]
    whole = Run(sweep.cells)
    attempt = whole.start()
    attempt.add([make_record(uid) for uid in own])
    whole.attempts.fail(attempt, DIES)
    assert whole.queue.exhausted(), "all had ended"


def test_trials_without_a_record_wait_again(sweep: Sweep, make_record: Make) -> None:
    """A worker that was asked to stop leaves some of its pack to others."""
    run = Run(sweep.cells)
    attempt = run.start()
    own = uids(attempt)
    run.attempts.finish(attempt, [make_record(own[2])])
    assert uids(run.start()) == [uid for uid in own if uid != own[2]]


def test_a_node_that_dies_is_no_attempt_of_its_trials(sweep: Sweep, make_record: Make) -> None:
    run = Run(sweep.cells, workers=2)
    for _ in range(5):
        attempt = run.start()
        assert (len(attempt.item.cells), attempt.item.attempt, attempt.item.splits) == (3, 1, ())
        run.attempts.fail(attempt, NODE_DIES)
    with pytest.raises(UserError, match=r"^Ray has died on this machine; .*: Worker exit detail: Owner's node has"):
        run.attempts.fail(run.start(), DRIVER_NODE_DIES)


def test_deaths_in_a_row_end_the_run_and_a_result_is_the_end_of_the_row(sweep: Sweep, make_record: Make) -> None:
    run = Run(sweep.cells * 30)
    for _ in range(3):
        for _ in range(2 * MOST_DEATHS):
            run.attempts.fail(run.start(), NODE_DIES)
        attempt = run.start()
        run.attempts.finish(attempt, [make_record(uid) for uid in uids(attempt)[:1]])
    for _ in range(2 * MOST_DEATHS):
        run.attempts.fail(run.start(), NODE_DIES)
    with pytest.raises(UserError, match=r"^25 Ray workers died one after the other; the last: The actor died because"):
        run.attempts.fail(run.start(), NODE_DIES)


def test_workers_that_do_not_start_end_the_run(sweep: Sweep) -> None:
    run = Run(sweep.cells, workers=2)
    run.attempts.fail_to_start(DIES)
    run.attempts.fail_to_start(DIES)
    with pytest.raises(UserError, match=r"^3 Ray workers died one after the other; the last: worker exit: killed by"):
        run.attempts.fail_to_start(DIES)


def test_memory_pressure_is_waited_for_and_not_held_against_a_trial_at_first(sweep: Sweep) -> None:
    run, pauses = Run(sweep.cells[:1]), list[float]()
    while not run.stored:
        run.attempts.fail(run.start(), LOW_MEMORY)
        assert run.attempts.pausing
        before = run.now
        while run.attempts.pausing:
            assert run.attempts.start() is None
            run.now += 0.5
        pauses.append(run.now - before)
    assert pauses == [2, 4, 8, 16, 20], "three deaths are excused, then two attempts fail"
    assert outcome(run.stored[0]) == "out of memory"
    assert run.queue.exhausted()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_dies_every_trial_has_one_record(sweep: Sweep, make_record: Make, seed: int) -> None:
    chance = random.Random(seed)
    run = Run(sweep.cells, workers=2, options=RunOptions(timeout=1.0))
    poison = {cell.uid for cell in sweep.cells if chance.random() < 0.2}
    running: list[Attempt] = []
    while not run.queue.exhausted():
        run.now += chance.choice((0.1, 1.0, 30.0))
        if len(running) < 2 and (attempt := run.attempts.start()):
            running.append(attempt)
        for attempt in [own for own in running if chance.random() < 0.5]:
            missing = uids(attempt)
            attempt.add([make_record(uid) for uid in missing if uid not in poison and chance.random() < 0.3])
            if run.attempts.overdue(attempt) or poison & {*missing}:
                run.attempts.fail(attempt, chance.choice((DIES, LOW_MEMORY)))
            elif chance.random() < 0.2:
                run.attempts.fail(attempt, NODE_DIES)
            else:
                some = chance.sample(missing, chance.randint(1, len(missing)))
                run.attempts.finish(attempt, [make_record(uid) for uid in some])
            running.remove(attempt)
    assert Counter(record.uid for record in run.stored) == Counter(cell.uid for cell in sweep.cells), f"seed {seed}"
    assert {r.uid for r in run.stored if r.status == FAILED} >= poison, f"seed {seed}"
