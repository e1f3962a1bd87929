"""Ray actor through which Tune's workers report progress and receive the stop signal: Tune alone may call them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from dse.run.executors.worker import Worker
from dse.run.executors.worker_log import WorkerLog

_INTERVAL = 0.5  # seconds between two reports of a worker


class WorkerStatusActor:
    """The last report of each worker: running trials, how much of them is done (in trials), and printed lines."""

    def __init__(self) -> None:
        self._progress: dict[str, tuple[int, float]] = {}
        self._lines: list[str] = []
        self._stopping = False
        self._grace: float | None = None

    def report(self, worker: str, running: int, done: float, lines: Sequence[str]) -> tuple[bool, float | None]:
        """Called by a worker. Returns whether it is to stop, and the ``grace`` of ``Worker.stop``."""
        self._progress[worker] = running, done
        self._lines += lines
        return self._stopping, self._grace

    def poll(self, stopping: bool, grace: float | None = None) -> tuple[int, float, list[str]]:
        """Called by the driver. Returns the sums over all workers, and the lines since the last call.

        ``stopping``: every worker is told to stop at its next report, within ``grace`` seconds.
        """
        self._stopping, self._grace = self._stopping or stopping, grace
        lines, self._lines = self._lines, []
        running, done = (sum(own[i] for own in self._progress.values()) for i in (0, 1))
        return int(running), done, lines


def make_reporter(status: Any, name: str, worker: Worker, log: WorkerLog) -> Callable[[int, int], None]:
    """An ``on_step`` callback that reports to a ``WorkerStatusActor`` now and then, and stops the worker if told to."""
    import ray

    answer: Any = None
    last = 0.0

    def on_step(step: int, steps: int) -> None:
        nonlocal answer, last
        if time.monotonic() - last < _INTERVAL:
            return
        last = time.monotonic()
        if answer is not None and ray.wait([answer], num_returns=1, timeout=0)[0]:
            stopping, grace = ray.get(answer)
            if stopping:
                worker.stop(grace)
            answer = None
        if answer is None:
            answer = status.report.remote(name, worker.running, worker.done, log.drain())

    return on_step


__all__ = ["WorkerStatusActor", "make_reporter"]
