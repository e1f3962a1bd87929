"""A worker runs one pack after the other: in this process, or as a Ray actor. It enforces time limits and stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dse.results.record import Record
from dse.run.executors.failed_record import failed_record
from dse.train.checkpoint import Checkpoints, Left
from dse.train.context import OnStep, TrainContext
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.train.halving import RungTarget
    from dse.trial import Trial


class TimedOut(BaseException):
    """Ends a pack that takes too long. It is no ``Exception``: the train loop would take it for a trial's failure."""


class _PackTimer:
    """Seconds since a pack's first step in this process, and how many steps it has made since."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._start = clock, clock()
        self._first: int | None = None
        self.steps = 0

    def before_step(self, step: int) -> None:
        """Called before each step. The first is not 0 after a checkpoint; a lower one is the first of the pack's
        halves, which start anew."""
        if self._first is None or step < self._first:
            self._start, self._first = self._clock(), step
        self.steps = step - self._first

    @property
    def seconds(self) -> float:
        return self._clock() - self._start


class Worker:
    """Runs packs with one torch thread; data are loaded once per process (``dse.train.loop.load``).

    ``running``: trials of the pack that runs; ``done``: how much of them is trained, in trials; ``on_done``: called
    with the records of trials that are finished while others of their pack are not; ``clock``: seconds, as
    ``time.monotonic`` counts them, for time limits.
    """

    def __init__(self, options: RunOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._clock = options, clock
        self.running, self.done = 0, 0.0
        self._stopping = self._leaving = False
        self.on_done: Callable[[Sequence[Record]], None] = lambda records: None
        self._grace = options.checkpoint
        self._checkpoints = None
        if options.results:
            self._checkpoints = Checkpoints(options.results, options.checkpoint, lambda: self._leaving)

    def stop(self, grace: float | None = None) -> None:
        """Asks a pack that needs more than ``grace`` seconds to its end to leave a checkpoint and stop.

        By default, and at most, ``grace`` is the time between checkpoints. May be called from another thread, or from
        ``on_step``.
        """
        most = self._options.checkpoint
        self._grace = most if grace is None else min(grace, most)
        self._stopping = True

    def run(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        width: int | None,
        on_step: OnStep | None = None,
        target: RungTarget | None = None,
        splits: tuple[str, ...] = (),
    ) -> list[Record]:
        """Trains the first ``width`` of trials that can share a pack; None: as many as a measurement finds best.

        ``target``: how far they train; ``splits``: see ``TrainContext``. A pack that takes longer than its trials may
        is split in halves that start anew, without the trials that are finished; a trial that takes too long alone has
        a record with the status failed. After ``stop`` records may be missing, of any of these trials: these go on from
        their checkpoint when they are run again. Sets the process's number of torch threads to 1.
        """
        import torch

        torch.set_num_threads(1)  # one and two threads are not bit-equal; the setting is the calling thread's own
        self.running, self.done = len(trials), 0.0
        self._stopping = self._leaving = False
        if width is None and len(trials) > 1:
            from dse.train.loop import load
            from dse.train.width import measured_width

            device = self._options.device
            data = load(trials[0].task, self._options.data_dir, device)[0]
            width = measured_width(trials, data, device, self._options.gpus)
        return self._run_pack(trials[:width], configs[:width], on_step, target, splits)

    def _run_pack(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        on_step: OnStep | None,
        target: RungTarget | None,
        splits: tuple[str, ...],
    ) -> list[Record]:
        """``run`` with a known width; calls itself for the halves of a pack that takes too long."""
        from dse.train.loop import run_pack  # not above: it imports torch

        finished: dict[str, Record] = {}

        def on_done(records: Sequence[Record]) -> None:
            finished.update((record.uid, record) for record in records)
            if target is None or target.rung is None:  # at a rung others may go on with them as soon as they are known
                self.on_done(records)

        timer, timeout = _PackTimer(self._clock), self._options.timeout

        def before_step(step: int, steps: int) -> None:
            timer.before_step(step)
            seconds = timer.seconds
            if timeout and timer.steps and seconds > timeout * len(trials):
                raise TimedOut
            self.running, self.done = len(trials), len(trials) * step / steps
            if on_step:
                on_step(step, steps)
            if self._stopping and timer.steps:
                self._leaving = seconds / timer.steps * (steps - step) > self._grace

        context = TrainContext(self._options, before_step, target, on_done, splits, self._checkpoints)
        try:
            return run_pack(trials, context, configs)
        except Left:
            return [finished[trial.uid] for trial in trials if trial.uid in finished]
        except TimedOut:
            seconds = timer.seconds
            if self._checkpoints:
                self._checkpoints.forget([trial.uid for trial in trials])
        error = f"timed out: {seconds:.1f} s of training, {timeout:g} s are allowed"
        if len(trials) == 1:
            record = failed_record(trials[0], configs[0], error, self._options.device, round(seconds, 3), splits)
            on_done([record])
            return [record]
        rest = [place for place, trial in enumerate(trials) if trial.uid not in finished]
        half, splits = -(-len(rest) // 2), context.split(len(trials), f"{error} each").splits
        for part in filter(None, (rest[:half], rest[half:])):
            part_trials, part_configs = [trials[place] for place in part], [configs[place] for place in part]
            records = self._run_pack(part_trials, part_configs, on_step, target, splits)
            finished.update((record.uid, record) for record in records)
            if len(records) < len(part):  # it was asked to stop
                break
        return [finished[trial.uid] for trial in trials if trial.uid in finished]


__all__ = ["TimedOut", "Worker"]
