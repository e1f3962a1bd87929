"""Memory pressure: Ray kills workers when a machine is low on memory, whoever has filled it.

A pack whose worker was killed so is run again in halves, which need less. A trial that ran alone is run again after a
pause, which grows, and counts as the cause only after several kills.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dse.errors import UserError

FIRST, LONGEST = 2.0, 20.0
"""Seconds of the first pause, which doubles with every further kill in a row, and of the longest."""
PATIENCE = 3
"""Kills in a row that are not held against a trial that runs alone: others may have filled the memory."""
MOST = 12
"""Kills of each worker in a row after which a sweep ends: bisecting the widest pack takes ten."""
WHY = "Ray ended its worker because the machine was low on memory"
"""The reason in logs and records."""
_SIGNS = ("low on memory", "node_out_of_memory", "outofmemoryerror")
"""Not 'OOM killer': Ray's advice on any death names it among the causes."""
_ADVICE = (". Some common causes", " Some common causes", " There are some potential root causes", " Refer to ")
_DETAIL = "Worker exit detail:"


class MemoryPressure:
    """Counts the kills in a row, and pauses after each. ``workers``: how many there are; ``clock``: in seconds."""

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers, self._clock = workers, clock
        self._kills, self._paused_until = 0, 0.0

    def on_kill(self) -> None:
        """Counts a kill and begins a pause. Raises UserError after too many kills in a row."""
        self._kills += 1
        if self._kills > MOST * (self._workers + 1):
            raise UserError(
                f"{self._kills} workers in a row were ended because the machine is low on memory; free some, or run "
                "fewer packs at a time (--workers), then run the same command again to go on"
            )
        self._paused_until = self._clock() + min(LONGEST, FIRST * 2.0 ** (self._kills - 1))

    def reset(self) -> None:
        """Ends the row of kills, and the pause: a worker has finished something."""
        self._kills, self._paused_until = 0, 0.0

    @property
    def pausing(self) -> bool:
        """Whether to start nothing now."""
        return self._clock() < self._paused_until

    @property
    def excuses_last(self) -> bool:
        """Whether the last kill is not held against a trial that ran alone."""
        return self._kills <= PATIENCE


def is_memory_kill(error: object) -> bool:
    """Whether a worker was killed because memory was low: by the type of Ray's exception, or by its text."""
    text = f"{type(error).__name__} {error}".lower()
    return any(sign in text for sign in _SIGNS)


def death_message(attempts: int, error: object) -> str:
    """The error in the record of a trial whose worker died each time it ran alone."""
    if is_memory_kill(error):
        return f"out of memory: {WHY}, each time this trial ran alone"
    return f"the worker died {attempts} times while it ran this trial:\n{summarize(error)}"


def summarize(error: object) -> str:
    """Ray's text about a dead worker in one line, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = next((line for line in lines if _DETAIL in line), lines[-1])
    line = line[max(0, line.find(_DETAIL)) :]
    for advice in _ADVICE:
        line = line.partition(advice)[0]
    return line[:300]


__all__ = ["WHY", "MemoryPressure", "death_message", "is_memory_kill", "summarize"]
