"""Memory pressure: Ray ends workers when a machine is low on memory, whoever has filled it. What follows is patience.

A pack that is ended is tried in halves, which need less; a trial alone is tried again, after a pause that grows, and is
the cause only after several.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dse.errors import UserError

FIRST, LONGEST = 2.0, 20.0
"""Seconds of the first pause, which doubles with every further death in a row, and of the longest."""
PATIENCE = 3
"""Deaths in a row that are not held against a trial that runs alone: others may have filled the memory."""
MOST = 12
"""Deaths of each worker in a row after which a sweep ends: bisection of the widest pack takes ten."""
WHY = "Ray ended its worker because the machine was low on memory"
_SIGNS = ("low on memory", "node_out_of_memory", "outofmemoryerror")
"""Not 'OOM killer': Ray's advice on any death names it among the causes."""
_ADVICE = (". Some common causes", " Some common causes", " There are some potential root causes", " Refer to ")
_DETAIL = "Worker exit detail:"


class Pressure:
    """``slots``: workers that there are; ``clock``: seconds, as ``time.monotonic`` counts them."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots, self.deaths, self._until, self._clock = slots, 0, 0.0, clock

    def note(self) -> None:
        """A worker was ended. Raises UserError when that happens again and again."""
        self.deaths += 1
        if self.deaths > MOST * (self._slots + 1):
            raise UserError(
                f"{self.deaths} workers in a row were ended because the machine is low on memory; free some, or run "
                "fewer packs at a time (--workers), then run the same command again to go on"
            )
        self._until = self._clock() + min(LONGEST, FIRST * 2.0 ** (self.deaths - 1))

    def relieve(self) -> None:
        """A worker has finished something."""
        self.deaths, self._until = 0, 0.0

    @property
    def pausing(self) -> bool:
        """Whether nothing is to be begun now."""
        return self._clock() < self._until

    @property
    def excuses(self) -> bool:
        """Whether the last death is not held against a trial alone."""
        return self.deaths <= PATIENCE


def by_memory(error: object) -> bool:
    """Whether a worker died because memory was low: by the type of Ray's exception, or by its text."""
    text = f"{type(error).__name__} {error}".lower()
    return any(sign in text for sign in _SIGNS)


def blame(attempts: int, error: object) -> str:
    """The error of a trial whose worker died each time it ran alone."""
    if by_memory(error):
        return f"out of memory: {WHY}, each time this trial ran alone"
    return f"the worker died {attempts} times while it ran this trial:\n{short(error)}"


def short(error: object) -> str:
    """What Ray says of a dead worker, in one line without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = next((line for line in lines if _DETAIL in line), lines[-1])
    line = line[max(0, line.find(_DETAIL)) :]
    for advice in _ADVICE:
        line = line.partition(advice)[0]
    return line[:300]


__all__ = ["WHY", "Pressure", "blame", "by_memory", "short"]
