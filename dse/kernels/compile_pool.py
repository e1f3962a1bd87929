"""Compiles kernels in several processes at once, into Triton's cache on disk, where their launches find them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

from dse.kernels.kernel_jobs import KernelJob
from dse.text import duration
from dse.version import IMPORT_ROOT

_MOST = 16
"""Processes, at most, where nobody says how many."""
LIMIT = 300.0
"""Seconds that one kernel may take: some never come out of the compiler, and nothing would ever end."""


class Compiled(NamedTuple):
    """``kernels`` that were asked for and were not in the cache; of them ``done``; ``failed``: why, for each that was
    refused; ``left``: about how many seconds the others take, None before the first is done; ``longest``: the kernel
    that has been compiled for the longest time and for how many seconds, None where none is."""

    kernels: int
    done: int
    failed: tuple[str, ...]
    left: float | None
    longest: tuple[str, float] | None = None


class CompilePool:
    """Up to ``processes`` processes (0: as many as this one has processors, at most 16), started one by one as kernels
    come. Those with the most constants, which take longest, come first. A kernel that takes longer than ``limit``
    seconds is given up, with its process. A context manager: at its end all processes have ended.
    """

    def __init__(self, processes: int = 0, limit: float = LIMIT) -> None:
        self._most, self._limit = processes or min(_MOST, _processors()), limit
        self._todo: list[tuple[int, int, KernelJob]] = []
        self._keys: set[str] = set()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._began: float | None = None
        self._kernels, self._done, self._failed, self._closed = 0, 0, list[str](), False
        self._work_of_all, self._work_done = 0, 0
        self._running: dict[int, tuple[str, float]] = {}

    def __enter__(self) -> CompilePool:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._todo.clear()
            self._changed.notify_all()
            for child in self._children:
                _end(child)
        for thread in self._threads:
            thread.join()

    def submit(self, job: KernelJob) -> None:
        """Has a kernel compiled, unless it is in the cache already or was submitted before."""
        if job.key in self._keys or job.is_compiled():
            return
        with self._changed:
            self._keys.add(job.key)
            self._began = self._began or time.monotonic()
            heappush(self._todo, (-len(job.constants), self._kernels, job))
            self._work_of_all += len(job.constants)
            self._kernels += 1
            self._changed.notify()
        if len(self._threads) < min(self._most, self._kernels):
            self._threads.append(threading.Thread(target=self._work, daemon=True))
            self._threads[-1].start()

    def wait(self, seconds: float) -> bool:
        """Waits until everything is done, at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(self._finished, seconds)

    @property
    def state(self) -> Compiled:
        """How far it is."""
        with self._changed:
            left = None
            if self._began is not None and self._work_done:
                left = (time.monotonic() - self._began) / self._work_done * (self._work_of_all - self._work_done)
            oldest = min(self._running.values(), key=lambda one: one[1], default=None)
            longest = None if oldest is None else (oldest[0], time.monotonic() - oldest[1])
            return Compiled(self._kernels, self._done, tuple(self._failed), left, longest)

    def _finished(self) -> bool:
        return self._done + len(self._failed) == self._kernels

    def _work(self) -> None:
        """One thread feeds one process; where that dies, the kernel it had is noted as failed, and another starts."""
        child: subprocess.Popen[bytes] | None = None
        while (job := self._next()) is not None:
            me = threading.get_ident()
            try:
                if child is None or child.poll() is not None:
                    child = self._start()
                answer = _ask(child, job, self._limit)
            except Exception as error:  # noqa: BLE001 - its launch compiles the kernel
                answer = f"{type(error).__name__}: {error}"
            with self._changed:
                self._running.pop(me, None)
                if answer == "ok":
                    self._done += 1
                else:
                    self._failed.append(f"{job.kernel.name}: {answer}")
                self._work_done += len(job.constants)
                self._changed.notify_all()
        if child is not None:
            with suppress(OSError):  # it may have ended
                child.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        """Another process, unless all are about to end."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool has ended")
            child = _start()
            self._children.append(child)
        return child

    def _next(self) -> KernelJob | None:
        with self._changed:
            self._changed.wait_for(lambda: self._todo or self._closed)
            if self._closed:
                return None
            job = heappop(self._todo)[-1]
            self._running[threading.get_ident()] = job.kernel.name, time.monotonic()
            return job


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> subprocess.Popen[bytes]:
    places = os.pathsep.join(filter(None, (str(IMPORT_ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": places}
    command = [sys.executable, "-m", "dse.kernels.compile_worker"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, cwd=Path.cwd(), process_group=0, **pipes)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a process with the compilers that it has started, at once: one in a loop heeds nothing else."""
    if child.poll() is None:
        with suppress(OSError):  # it may have ended meanwhile
            os.killpg(child.pid, signal.SIGKILL)


def _ask(child: subprocess.Popen[bytes], job: KernelJob, limit: float) -> str:
    """The process's answer; where none has come after ``limit`` seconds, the process is ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _end(child)

    timer = threading.Timer(limit, give_up)
    timer.daemon = True
    timer.start()
    try:
        pickle.dump(job, child.stdin)
        child.stdin.flush()
        answer = child.stdout.readline().decode().strip()
    finally:
        timer.cancel()
    if late.is_set():
        child.wait()
        return f"given up after {duration(limit)}"
    return answer or "the process that compiled it ended"


__all__ = ["CompilePool", "Compiled"]
