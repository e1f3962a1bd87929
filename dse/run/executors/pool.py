"""A pool of long-lived Ray actors, each given the next pack when it is idle.

No Ray object is made per trial, and per pack but one method call (1 to 3 ms). A pack whose actor dies is tried again in
halves, until the trial that kills its worker is alone; that one is tried once more, then recorded as failed. An actor
that is lost with its node says nothing about its trials: they wait again as they were.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.results.record import Record
from dse.run.executors.base import OnProgress, OnRecords, Stop, lost, patience
from dse.run.executors.cluster import GRACE, check_started, on_gpu
from dse.run.executors.handed_out import Handed
from dse.run.executors.pressure import WHY, Pressure, blame, by_memory, short
from dse.run.executors.worker import Worker
from dse.run.executors.worker_log import WorkerLog, write_down
from dse.run.queue.pack_queue import ATTEMPTS, WorkItem, WorkQueue
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.train.halving import RungTarget
    from dse.trial import Trial

_DEATHS = 12
"""Of each worker, in a row: a pack of 512 dies ten times before its poison is alone, and twice then."""
_WITH_ITS_NODE = ("its node has died", "node has crashed", "node was terminated")
_WITH_OURS = "owner has died"
"""What Ray says of an actor that is lost with its node, and with the driver's: only the text tells."""
_BEAT = 0.5
_LAST_WORDS = 3.0  # seconds for the idle ones to say at the end what they have printed
_WATCH = "watch"


class Actor(Worker):
    """A worker in its own process. A UserError comes back as a value: Ray would wrap it in a traceback."""

    def __init__(self, options: RunOptions) -> None:
        super().__init__(options)
        self._said = WorkerLog()
        self._said.listen()
        self._ready = deque[Record]()  # finished, and not yet told
        self.on_done = self._ready.extend

    def ready(self) -> None:
        """Answers once the process is up and torch is imported."""

    def attempt(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        width: int | None,
        leg: RungTarget | None,
        splits: tuple[str, ...] = (),
    ) -> list[Record] | str:
        try:
            return self.run(trials, configs, width, leg=leg, splits=splits)
        except UserError as error:
            return str(error)
        finally:
            self._ready.clear()

    def progress(self, stopping: bool, grace: float | None = None) -> tuple[int, float, list[str], list[Record]]:
        """``running``, ``done``, what was printed, and the records that are finished since the last time; asked beside
        an ``attempt``, which returns all of its records at its end. ``stopping``: see ``stop``."""
        if stopping:
            self.stop(grace)
        ready = [self._ready.popleft() for _ in range(len(self._ready))]
        return self.running, self.done, self._said.take(), ready


@dataclass
class _Flight:
    """What an actor is busy with: a load of cells, or (None) starting up. ``handed``: which of them have results.

    ``asked``: the question for its progress that is not answered yet; ``running``, ``done``: the last answer.
    """

    actor: Any
    load: WorkItem | None = None
    since: float = field(default_factory=time.monotonic)
    asked: Any = None
    running: int = 0
    done: float = 0.0
    late: bool = False
    handed: Handed | None = None


class Pool:
    """The actors, and what is in flight."""

    def __init__(
        self, options: RunOptions, supply: WorkQueue, slots: int, on_records: OnRecords, stop: Stop, kind: type[Actor]
    ) -> None:
        self._kind = kind
        # a worker sees the GPU that Ray gives it as the only one
        self._options = replace(options, device="cuda") if on_gpu(options) else options
        self._supply, self._slots, self._on_records, self._stop = supply, slots, on_records, stop
        self._flights: dict[Any, _Flight] = {}
        self._idle: list[Any] = []
        self._late: list[Any] = []  # questions for progress that were not answered when their pack had ended
        self._deaths, self._pressure = 0, Pressure(slots)  # in a row
        self._moved = time.monotonic()

    def run(self, on_progress: OnProgress) -> None:
        import ray

        while True:
            self._dispatch()
            if not self._flights and self._supply.over():
                return
            if self._stop.is_set() and all(flight.load is None for flight in self._flights.values()):
                return
            if self._flights:
                landed, _ = ray.wait(list(self._flights), num_returns=1, timeout=_BEAT)
            else:
                landed = []
                time.sleep(_BEAT)
            for ref in landed:
                self._land(ref, self._flights.pop(ref))
                self._moved = time.monotonic()
            self._watch()
            flights = self._flights.values()
            on_progress(sum(flight.running for flight in flights), sum(flight.done for flight in flights))
            self._check_start()

    def close(self) -> None:
        """Ends every actor, whatever it does; the idle ones may have something to say yet."""
        with suppress(Exception):  # Ray itself may be what has died
            self._hear_out()
        for actor in [*self._idle, *(flight.actor for flight in self._flights.values())]:
            _end(actor)
        self._idle.clear()
        self._flights.clear()

    def _hear_out(self) -> None:
        import ray

        asked = [actor.progress.options(concurrency_group=_WATCH).remote(False) for actor in self._idle]
        asked += self._late
        answers = ray.wait(asked, num_returns=len(asked), timeout=_LAST_WORDS)[0] if asked else []
        self._write_down(answers)

    def _write_down(self, answers: Sequence[Any]) -> None:
        import ray

        for answer in answers:
            with suppress(ray.exceptions.RayError):
                write_down(self._options.results, ray.get(answer)[2])

    def _dispatch(self) -> None:
        """Loads for the idle actors, and actors for the loads that wait."""
        if self._pressure.pausing:
            return
        while self._idle and not self._stop.is_set() and (load := self._supply.take()):
            actor = self._idle.pop()
            trials, configs = [cell.trial for cell in load.cells], [cell.config for cell in load.cells]
            attempt = actor.attempt.remote(trials, configs, load.width, load.leg, load.splits)
            handed = Handed(load, self._on_records)
            self._flights[attempt] = _Flight(actor, load, running=len(load.cells), handed=handed)
        starting = sum(flight.load is None for flight in self._flights.values())
        room = self._slots - len(self._flights) - len(self._idle)
        if not self._stop.is_set() and not self._idle:
            for _ in range(min(room, len(self._supply) - starting)):
                self._hire()

    def _hire(self) -> None:
        import ray

        gpus = self._options.gpus if on_gpu(self._options) else 0
        make: Any = ray.remote(concurrency_groups={_WATCH: 1})(self._kind)  # type: ignore[call-overload]
        handle: Any = make.options(num_cpus=1, num_gpus=gpus, max_restarts=0).remote(self._options)
        self._flights[handle.ready.remote()] = _Flight(handle)

    def _land(self, ref: Any, flight: _Flight) -> None:
        import ray

        try:
            outcome = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._lose(flight, error)
            return
        if isinstance(outcome, str):
            _end(flight.actor)
            raise UserError(outcome)
        if flight.handed is not None:
            self._late += [] if flight.asked is None else [flight.asked]
            self._deaths = 0
            self._pressure.relieve()
            flight.handed.keep(outcome)
            self._supply.finished(*flight.handed.done())
        self._idle.append(flight.actor)

    def _lose(self, flight: _Flight, error: Exception) -> None:
        """An actor died, or could not even run its method."""
        for actor in (flight.actor, *self._idle):  # a trial is blamed only after an actor that had just answered died
            _end(actor)
        self._idle.clear()
        text = "" if flight.late else str(error)
        if _WITH_OURS in text:  # every other actor goes too, and no new one can come
            raise UserError(f"Ray has died on this machine; run the same command again to go on: {short(error)}")
        pressed = by_memory(text)
        if pressed:
            self._pressure.note()
        else:
            self._deaths += 1
        if flight.handed is not None and any(words in text for words in _WITH_ITS_NODE):
            self._supply.finished(*flight.handed.done())
        elif flight.handed is not None:
            self._retry(flight, flight.handed, error, pressed)
        if self._deaths > (self._slots if flight.load is None else _DEATHS * (self._slots + 1)):
            raise UserError(f"{self._deaths} Ray workers died one after the other; the last: {short(error)}")

    def _retry(self, flight: _Flight, handed: Handed, error: Exception, pressed: bool) -> None:
        """What was in flight is tried again; a trial that does it alone is a result."""
        seconds, load = time.monotonic() - flight.since, handed.load
        why = f"no answer in {seconds:.0f} s" if flight.late else WHY if pressed else f"its worker died: {short(error)}"
        if len(load.cells) > 1:
            write_down(self._options.results, [f"a pack of {len(load.cells)} trials is tried again in halves: {why}"])
        if pressed and self._pressure.excuses:
            handed.excuse()
        if (guilty := handed.died(self._supply, why)) is None:
            return
        reason = blame(ATTEMPTS, error)
        if flight.late:
            reason = f"timed out: no answer in {seconds:.0f} s, {self._options.timeout:g} s are allowed"
        record = lost(guilty.trial, guilty.config, reason, self._options.device, seconds, load.splits)
        self._on_records([(guilty, record)])

    def _watch(self) -> None:
        """How far the packs are, as the actors answered; and an end to those that hang."""
        import ray

        now, timeout = time.monotonic(), self._options.timeout
        answers, self._late = ray.wait(self._late, num_returns=len(self._late), timeout=0) if self._late else ([], [])
        self._write_down(answers)
        for flight in self._flights.values():
            if flight.load is None:
                continue
            if flight.asked is not None and ray.wait([flight.asked], num_returns=1, timeout=0)[0]:
                try:
                    flight.running, flight.done, lines, ready = ray.get(flight.asked)
                    write_down(self._options.results, lines)
                    if flight.handed is not None:
                        flight.handed.keep(ready)
                except ray.exceptions.RayError:  # it died: its flight will tell
                    continue
                flight.asked = None
            if flight.asked is None and now - flight.since > _BEAT:
                ask = flight.actor.progress.options(concurrency_group=_WATCH)
                flight.asked = ask.remote(self._stop.is_set(), patience(self._stop))
            if timeout and not flight.late and now - flight.since > timeout * len(flight.load.cells) + GRACE:
                flight.late = True
                _end(flight.actor)

    def _check_start(self) -> None:
        starting = self._flights and all(flight.load is None for flight in self._flights.values())
        if starting:
            check_started(self._moved)


def _end(actor: Any) -> None:
    import ray

    ray.kill(actor, no_restart=True)
