"""A place where packs run one after the other: this process, or a Ray actor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.run.checkpoint import Checkpoints, Left
from dse.run.executors.base import Options, lost
from dse.run.record import Record
from dse.run.setup import OnStep, Setup

if TYPE_CHECKING:
    from dse.run.halving import Leg
    from dse.trial import Trial


class TimedOut(BaseException):
    """Ends a pack that takes too long. No ``Exception``: the training loop would take it for the trial's own."""


class Worker:
    """Runs packs with one torch thread; data is loaded once per process (``train.load``).

    ``running``: trials of the present pack; ``done``: how much of them is trained, in trials' worth.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.running, self.done = 0, 0.0
        self._stopping = self._leaving = False
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
        leg: Leg | None = None,
    ) -> list[Record]:
        """Records of the first ``width`` trials, which can share a pack; None: of as many as a measurement finds best.

        A pack that takes longer than its trials may is split in halves that start anew; a trial that does so alone is
        a result (``failed``). The process's number of torch threads is 1 from then on. After ``stop`` there may be
        fewer records, or none: those trials go on from their checkpoint when they are run again.
        """
        import torch

        torch.set_num_threads(1)  # one and two threads are not bit-equal; the setting is the calling thread's own
        self.running, self.done = len(trials), 0.0
        self._stopping = self._leaving = False
        if width is None and len(trials) > 1:
            from dse.run.train import load
            from dse.run.width import measured_width

            device = self._options.device
            data = load(trials[0].task, self._options.data_dir, device)[0]
            width = measured_width(trials, data, device, self._options.gpus)
        return self._run(trials[:width], configs[:width], on_step, leg)

    def _run(
        self, trials: Sequence[Trial], configs: Sequence[str], on_step: OnStep | None, leg: Leg | None
    ) -> list[Record]:
        from dse.run.train import run_pack  # not above: it imports torch

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
        setup = Setup(own.data_dir, own.device, watch, own.halving, own.probes, self._checkpoints, leg)
        try:
            return run_pack(trials, setup, configs)
        except Left:
            return []
        except TimedOut:
            seconds = time.monotonic() - start
            if self._checkpoints:
                self._checkpoints.forget([trial.uid for trial in trials])
        if len(trials) == 1:
            reason = f"timed out: {seconds:.1f} s of training, {timeout:g} s are allowed"
            return [lost(trials[0], configs[0], reason, self._options.device, round(seconds, 3))]
        half = len(trials) // 2
        parts = (slice(None, half), slice(half, None))
        records: list[Record] = []
        for part in parts:
            own_records = self._run(trials[part], configs[part], on_step, leg)
            records += own_records
            if len(own_records) < len(trials[part]):  # it has left: what comes back are the first trials
                break
        return records
