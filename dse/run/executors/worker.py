"""A place where packs run one after the other: this process, or a Ray actor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dse.results.record import Record
from dse.run.executors.base import lost
from dse.train.checkpoint import Checkpoints, Left
from dse.train.context import OnStep, TrainContext
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.train.halving import RungTarget
    from dse.trial import Trial


class TimedOut(BaseException):
    """Ends a pack that takes too long. No ``Exception``: the training loop would take it for the trial's own."""


class Worker:
    """Runs packs with one torch thread; data is loaded once per process (``train.load``).

    ``running``: trials of the present pack; ``done``: how much of them is trained, in trials' worth; ``on_done``:
    called with the records of trials that are finished, where others of their pack are not yet.
    """

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self.running, self.done = 0, 0.0
        self._stopping = self._leaving = False
        self.on_done: Callable[[Sequence[Record]], None] = lambda records: None
        self._grace = options.checkpoint
        self._checkpoints = None
        if options.results:
            self._checkpoints = Checkpoints(options.results, options.checkpoint, lambda: self._leaving)

    def stop(self, grace: float | None = None) -> None:
        """Asks a pack that would take longer yet than ``grace`` seconds to leave a checkpoint and end.

        None, and at most: the time between checkpoints. May be called from another thread, or from ``on_step``.
        """
        usual = self._options.checkpoint
        self._grace = usual if grace is None else min(grace, usual)
        self._stopping = True

    def run(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        width: int | None,
        on_step: OnStep | None = None,
        leg: RungTarget | None = None,
        splits: tuple[str, ...] = (),
    ) -> list[Record]:
        """Records of the first ``width`` trials, which can share a pack; None: of as many as a measurement finds best.

        A pack that takes longer than its trials may is split in halves that start anew, without those that are
        finished; a trial that does so alone is a result (``failed``). The process's number of torch threads is 1 from
        then on. After ``stop`` there may be fewer records, of any of these trials, or none: the others go on from their
        checkpoint when they are run again. ``splits``: see ``TrainContext``.
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
        return self._run(trials[:width], configs[:width], on_step, leg, splits)

    def _run(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        on_step: OnStep | None,
        leg: RungTarget | None,
        splits: tuple[str, ...],
    ) -> list[Record]:
        from dse.train.loop import run_pack  # not above: it imports torch

        ready: dict[str, Record] = {}

        def on_done(records: Sequence[Record]) -> None:
            ready.update((record.uid, record) for record in records)
            if leg is None or leg.rung is None:  # at a rung others may go on with them as soon as they are known
                self.on_done(records)

        start, first, timeout = time.monotonic(), -1, self._options.timeout

        def watch(step: int, steps: int) -> None:
            nonlocal start, first
            if first < 0 or step < first:  # not 0 where it goes on from a checkpoint
                start, first = time.monotonic(), step
            elapsed = time.monotonic() - start
            if timeout and step > first and elapsed > timeout * len(trials):
                raise TimedOut
            self.running, self.done = len(trials), len(trials) * step / steps
            if on_step:
                on_step(step, steps)
            if self._stopping and step > first:
                self._leaving = elapsed / (step - first) * (steps - step) > self._grace

        own = self._options
        setup = TrainContext(
            own.data_dir, own.device, watch, own.halving, own.probes, self._checkpoints, leg, on_done, splits
        )
        try:
            return run_pack(trials, setup, configs)
        except Left:
            return [ready[trial.uid] for trial in trials if trial.uid in ready]
        except TimedOut:
            seconds = time.monotonic() - start
            if self._checkpoints:
                self._checkpoints.forget([trial.uid for trial in trials])
        reason = f"timed out: {seconds:.1f} s of training, {timeout:g} s are allowed"
        if len(trials) == 1:
            found = lost(trials[0], configs[0], reason, self._options.device, round(seconds, 3), splits)
            on_done([found])
            return [found]
        rest = [place for place, trial in enumerate(trials) if trial.uid not in ready]
        half, splits = -(-len(rest) // 2), setup.split(len(trials), f"{reason} each").splits
        for part in filter(None, (rest[:half], rest[half:])):
            some, names = [trials[place] for place in part], [configs[place] for place in part]
            own_records = self._run(some, names, on_step, leg, splits)
            ready.update((record.uid, record) for record in own_records)
            if len(own_records) < len(part):  # it has left
                break
        return [ready[trial.uid] for trial in trials if trial.uid in ready]
