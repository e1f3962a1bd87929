"""Packs in long-lived Ray actors, one per processor or GPU, each given the next pack when it is idle.

No Ray object is made per trial, and per pack but one method call (1 to 3 ms). A pack whose actor dies is tried again in
halves, until the trial that kills its worker is alone; that one is tried once more, then recorded as failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.run.executors.base import OnProgress, OnRecord, Options, Stop, Worker, lost, processors, widest
from dse.run.executors.cluster import cluster, on_gpu
from dse.run.packing import ATTEMPTS, Load, Queue
from dse.run.record import Record

if TYPE_CHECKING:
    from dse.sweep import Cell
    from dse.trial import Trial

START_TIMEOUT = 180.0
"""Seconds after which actors that do not come up are an error: resources others hold make Ray wait for ever."""
_BEAT = 0.5


class RayExecutor:
    """See ``Executor``; ``workers`` actors, by default one per processor or GPU of the cluster."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @property
    def workers(self) -> int:
        return self._options.workers or processors()

    def run(self, cells: Sequence[Cell], on_record: OnRecord, on_progress: OnProgress, stop: Stop) -> None:
        with cluster(self._options) as slots:
            pool = _Pool(self._options, cells, slots, on_record, stop)
            try:
                pool.run(min(slots, len(cells)), on_progress)
            finally:
                pool.close()


class Actor(Worker):
    """A worker in its own process. A UserError comes back as a value: Ray would wrap it in a traceback."""

    def ready(self) -> None:
        """Answers once the process is up and torch is imported."""

    def attempt(self, trials: Sequence[Trial], configs: Sequence[str], width: int | None) -> list[Record] | str:
        try:
            return self.run(trials, configs, width)
        except UserError as error:
            return str(error)


@dataclass(frozen=True)
class _Flight:
    """What an actor is busy with: a load of cells, or (None) starting up."""

    actor: Any
    load: Load | None = None

    @property
    def cells(self) -> int:
        return len(self.load.cells) if self.load else 0


class _Pool:
    """The actors, the cells that wait, and what is in flight."""

    def __init__(self, options: Options, cells: Sequence[Cell], slots: int, on_record: OnRecord, stop: Stop) -> None:
        self._options, self._on_record, self._stop = options, on_record, stop
        self._queue = Queue(cells, slots, widest(options.device))
        self._flights: dict[Any, _Flight] = {}
        self._deaths = 0  # in a row
        self._moved = time.monotonic()

    def run(self, slots: int, on_progress: OnProgress) -> None:
        import ray

        for _ in range(slots):
            self._hire()
        while self._flights:
            landed, _ = ray.wait(list(self._flights), num_returns=1, timeout=_BEAT)
            for ref in landed:
                self._land(ref, self._flights.pop(ref), slots)
                self._moved = time.monotonic()
            on_progress(sum(flight.cells for flight in self._flights.values()))
            self._check_start()

    def close(self) -> None:
        """Ends every actor, whatever it does."""
        for flight in self._flights.values():
            _end(flight.actor)
        self._flights.clear()

    def _hire(self) -> None:
        import ray

        gpus = 1 if on_gpu(self._options) else 0
        actor = ray.remote(Actor).options(num_cpus=1, num_gpus=gpus, max_restarts=0)
        handle: Any = actor.remote(self._options.data_dir, "cuda" if gpus else self._options.device)
        self._flights[handle.ready.remote()] = _Flight(handle)

    def _land(self, ref: Any, flight: _Flight, slots: int) -> None:
        import ray

        try:
            outcome = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._lose(flight, error, slots)
            return
        if isinstance(outcome, str):
            _end(flight.actor)
            raise UserError(outcome)
        if flight.load is not None:
            self._deaths = 0
            self._queue.finished(flight.load, len(outcome))
            for cell, record in zip(flight.load.cells, outcome, strict=False):
                self._on_record(cell, record)
        self._dispatch(flight.actor)

    def _dispatch(self, actor: Any) -> None:
        load = None if self._stop.is_set() else self._queue.take()
        if load is None:
            _end(actor)  # its memory is of use to those that still run
            return
        trials, configs = [cell.trial for cell in load.cells], [cell.config for cell in load.cells]
        self._flights[actor.attempt.remote(trials, configs, load.width)] = _Flight(actor, load)

    def _lose(self, flight: _Flight, error: Exception, slots: int) -> None:
        """An actor died, or could not even run its method."""
        _end(flight.actor)
        self._deaths += 1
        guilty = None if flight.load is None else self._queue.died(flight.load)
        if guilty is not None:
            reason = f"the worker died {ATTEMPTS} times while it ran this trial:\n{error}"
            self._on_record(guilty, lost(guilty, reason, self._options.device))
        if self._deaths > (slots if flight.load is None else 2 * slots + 10):
            raise UserError(f"{self._deaths} Ray workers died one after the other; the last: {_short(error)}")
        if self._queue and not self._stop.is_set():
            self._hire()

    def _check_start(self) -> None:
        starting = self._flights and all(flight.load is None for flight in self._flights.values())
        if starting and time.monotonic() - self._moved > START_TIMEOUT:
            raise UserError(
                f"no Ray worker has started in {START_TIMEOUT:.0f} s; something else may hold the processors or GPUs"
                " (`ray status` shows it)"
            )


def _end(actor: Any) -> None:
    import ray

    ray.kill(actor, no_restart=True)


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
