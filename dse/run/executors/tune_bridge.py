"""Between the supply and Ray Tune: hands out configurations when Tune asks, takes what they leave, and keeps watch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.search import Searcher

from dse.errors import UserError
from dse.results.record import BY, STOPPED, Record
from dse.run.executors.asha import spared
from dse.run.executors.base import OnProgress, OnRecords, Stop, lost, patience
from dse.run.executors.cluster import GRACE, check_started, on_gpu
from dse.run.executors.configuration import ERROR, RECORDS, Work
from dse.run.executors.handed_out import Handed
from dse.run.executors.pressure import WHY, Pressure, blame, by_memory, short
from dse.run.executors.worker_log import write_down
from dse.run.executors.worker_status import WorkerStatusActor
from dse.run.queue.pack_queue import ATTEMPTS, WorkQueue
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.run.queue.pack_queue import WorkItem

_BEAT = 0.5
_DEATHS = 12
ASHA = "asha"


@dataclass
class _Out:
    """A load that Tune has; ``since``: when it began to run; ``late``: it took too long, and its worker was killed."""

    load: WorkItem
    since: float = field(default_factory=time.monotonic)
    running: bool = False
    late: bool = False


class TuneBridge:
    """``board``: see there; ``for_workers``: their options."""

    def __init__(
        self,
        options: RunOptions,
        supply: WorkQueue,
        slots: int,
        on_records: OnRecords,
        on_progress: OnProgress,
        stop: Stop,
    ) -> None:
        import ray

        self.board: Any = ray.remote(num_cpus=0)(WorkerStatusActor).remote()
        self.for_workers = replace(options, device="cuda") if on_gpu(options) else options
        self._options, self._supply, self._slots = options, supply, slots
        self._on_records, self._on_progress, self._stop = on_records, on_progress, stop
        self._out: dict[str, _Out] = {}
        self._beat = self._moved = time.monotonic()
        self._deaths, self._pressure = 0, Pressure(slots)  # in a row

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its state now and then, to restore a run that we never restore."""
        return object, ()

    def close(self) -> None:
        import ray

        write_down(self._options.results, ray.get(self.board.read.remote(True))[2])
        ray.kill(self.board)

    def next(self, name: str) -> dict[str, Any] | str | None:
        """A configuration for Tune; None when there is none just now, FINISHED when none will come."""
        self.watch()
        if self._stop.is_set() or (not self._out and self._supply.over()):
            return str(Searcher.FINISHED)
        if self._pressure.pausing or len(self._out) >= self._slots or not (load := self._supply.take()):
            return None
        self._out[name] = _Out(load)
        self._moved = time.monotonic()
        rule = self._options.halving
        if rule is None or all(spared(rule, cell) for cell in load.cells):
            return {"work": Work(load)}
        rungs = rule.at(load.cells[0].trial.training.steps)
        return {"work": Work(load, tuple(rungs[step] for step in sorted(rungs)), rule.eta)}

    def result(self, name: str, result: dict[str, Any]) -> None:
        """A step's outcome; ``done`` with the last one, also where ASHA has just decided so."""
        self._moved = time.monotonic()
        self._deaths = 0
        self._pressure.relieve()
        lines = result.pop(RECORDS, ())
        if ERROR in result:
            raise UserError(result[ERROR])
        if not result.get("done") or name not in self._out:
            return
        load = self._out.pop(name).load
        records = {record.uid: _settled(record) for record in map(Record.parse, lines)}
        ended = [cell for cell in load.cells if cell.uid in records]
        if ended:
            self._on_records([(cell, records[cell.uid]) for cell in ended])
        rest = [cell for cell in load.cells if cell.uid not in records]
        self._supply.finished(replace(load, cells=(*ended, *rest)), len(ended))

    def failed(self, name: str, error: object) -> None:
        """A worker died with a configuration: it is tried again, in halves, as any load is."""
        out = self._out.pop(name, None)
        pressed = by_memory(error) and not (out and out.late)
        if pressed:
            self._pressure.note()
        else:
            self._deaths += 1
        if out:
            self._retry(out, error, pressed)
        if self._deaths > _DEATHS * (self._slots + 1):
            raise UserError(f"{self._deaths} Ray workers died one after the other; the last: {short(error)}")

    def _retry(self, out: _Out, error: object, pressed: bool) -> None:
        seconds, handed = time.monotonic() - out.since, Handed(out.load, self._on_records)
        why = f"no answer in {seconds:.0f} s" if out.late else WHY if pressed else f"its worker died: {short(error)}"
        if pressed and self._pressure.excuses:
            handed.excuse()
        if (guilty := handed.died(self._supply, why)) is None:
            return
        reason = blame(ATTEMPTS, error)
        if out.late:
            reason = f"timed out: no answer in {seconds:.0f} s, {self._options.timeout:g} s are allowed"
        record = lost(guilty.trial, guilty.config, reason, self._options.device, seconds, out.load.splits)
        self._on_records([(guilty, record)])

    def overdue(self, name: str) -> bool:
        """Whether a running configuration hangs where no time limit inside reaches; asked again and again."""
        out, timeout = self._out.get(name), self._options.timeout
        if out is None:
            return False
        if not out.running:
            out.running, out.since = True, time.monotonic()
        if not timeout or out.late or time.monotonic() - out.since < timeout * len(out.load.cells) + GRACE:
            return False
        out.late = True
        return True

    def watch(self, running: int = 1) -> None:
        """The heartbeat. ``running``: trials that Tune has started."""
        import ray

        if time.monotonic() - self._beat < _BEAT:
            return
        self._beat = time.monotonic()
        if self._out and not running:
            check_started(self._moved)
        elif running:
            self._moved = self._beat
        running, done, lines = ray.get(self.board.read.remote(self._stop.is_set(), patience(self._stop)))
        write_down(self._options.results, lines)
        self._on_progress(running, done)


class Loads(Searcher):
    """The supply, as Tune asks for configurations. What it has asked for is in the results folder, not here."""

    def __init__(self, desk: TuneBridge) -> None:
        super().__init__()
        self._desk = desk

    def suggest(self, trial_id: str) -> Any:
        return self._desk.next(trial_id)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """``TuneEvents`` hears of it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see above."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see above."""


class TuneEvents(Callback):
    """What happens in Tune, told to the desk."""

    def __init__(self, desk: TuneBridge) -> None:
        self._desk = desk

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
        self._desk.result(trial.trial_id, result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        error = trial.get_pickled_error() or "no reason known"
        self._desk.failed(trial.trial_id, str(error).strip())

    def on_step_end(self, iteration: int, trials: Sequence[Any], **_: Any) -> None:
        import ray

        running = [trial for trial in trials if trial.status == "RUNNING"]
        for trial in running:
            if self._desk.overdue(trial.trial_id):
                ray.kill(trial.temporary_state.ray_actor)
        self._desk.watch(len(running))


def _settled(record: Record) -> Record:
    """Who waited at a rung, and goes no further, has stopped there for good."""
    return replace(record, stopped=record.stopped | {BY: ASHA}) if record.status == STOPPED else record
