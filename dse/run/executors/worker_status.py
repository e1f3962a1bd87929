"""Where workers that nobody can ask write how far they are, and read whether to stop: a Ray actor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from dse.run.executors.worker import Worker
from dse.run.executors.worker_log import WorkerLog

_EVERY = 0.5  # seconds between two looks at it


class WorkerStatusActor:
    """What workers wrote last: running trials, how much of them is done (in trials' worth), and what was printed."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._lines: list[str] = []
        self._grace: float | None
        self._stopping, self._grace = False, None

    def write(self, worker: str, running: int, done: float, lines: Sequence[str]) -> tuple[bool, float | None]:
        """Whether the worker is to stop, and the seconds that its pack may take yet (``Worker.stop``)."""
        self._seen[worker] = running, done
        self._lines += lines
        return self._stopping, self._grace

    def read(self, stopping: bool, grace: float | None = None) -> tuple[int, float, list[str]]:
        """Over all workers; lines once. ``stopping``, ``grace``: tells them."""
        self._stopping, self._grace = self._stopping or stopping, grace
        lines, self._lines = self._lines, []
        return sum(running for running, _ in self._seen.values()), sum(done for _, done in self._seen.values()), lines


def beats(board: Any, name: str, worker: Worker, said: WorkerLog) -> Callable[[int, int], None]:
    """What a worker does before every step: now and then it writes to the ``board``, and stops if asked to."""
    import ray

    asked: Any = None
    last = 0.0

    def beat(step: int, steps: int) -> None:
        nonlocal asked, last
        if time.monotonic() - last < _EVERY:
            return
        last = time.monotonic()
        if asked is not None and ray.wait([asked], num_returns=1, timeout=0)[0]:
            stopping, grace = ray.get(asked)
            if stopping:
                worker.stop(grace)
            asked = None
        if asked is None:
            asked = board.write.remote(name, worker.running, worker.done, said.take())

    return beat
