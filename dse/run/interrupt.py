"""Signal handling: after the first signal running packs finish or leave a checkpoint, and nothing new is started.

Ctrl-C (SIGINT) leaves all the time that is needed; SIGTERM and SIGHUP come from a scheduler, or a terminal that has
gone, and are followed by a SIGKILL within GRACE seconds. A second signal stops at once. Nothing that is finished is
lost in any case.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL: Slurm's default (KillWait), and Kubernetes'."""
PACK = 8.0
"""Of these, seconds that a running pack may take to its end; one that would take longer leaves a checkpoint."""
_LIMIT = 20.0
"""Seconds after which whatever still runs is given up; the rest is for closing."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
URGENT = frozenset({signal.SIGTERM, signal.SIGHUP})


class Stopped(KeyboardInterrupt):
    """Ends a run at once, because of a second signal or because time is up. ``number``: the first signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Interrupt:
    """Whether a run was interrupted, and by which signal; may be read from any thread.

    ``number``: the first signal's, 0 before one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. It prints nothing: that can collide with what the program is just printing."""
        if self.number:
            raise Stopped(self.number)
        self.number, self._since = number, time.monotonic()
        if self.urgent:
            signal.setitimer(signal.ITIMER_REAL, _LIMIT)

    @property
    def urgent(self) -> bool:
        """Whether the process will be killed soon."""
        return self.number in URGENT

    @property
    def grace(self) -> float | None:
        """Seconds that a running pack may take yet; None: as many as between two checkpoints."""
        return max(0.0, self._since + PACK - time.monotonic()) if self.urgent else None

    def is_set(self) -> bool:
        return bool(self.number)


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Notes the first SIGINT, SIGTERM or SIGHUP in an ``Interrupt``; the second raises Stopped, a KeyboardInterrupt.

    Handlers and alarm are restored at the end. SIGHUP stays ignored where it is (nohup). Outside the main thread, where
    Python allows no signal handlers, nothing is ever noted.
    """
    stop = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    own = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in (*own, signal.SIGALRM)}
    try:
        yield stop
    finally:
        if stop.urgent:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Restores the signal handlers afterwards; for libraries that install their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that are started within it ignore SIGTERM and SIGHUP.

    A scheduler sends them to every process of a job; Ray's would end before their packs are finished. They end with the
    driver, which gets the signal too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, URGENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_terminal() -> None:
    """Output goes nowhere from now on: after SIGHUP the terminal is gone, and writing to it fails."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


__all__ = ["GRACE", "PACK", "SIGNALS", "Interrupt", "Stopped", "graceful", "handlers_kept", "leave_terminal"]
__all__ += ["shielded"]
