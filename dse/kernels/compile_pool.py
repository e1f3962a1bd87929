"""Compiles kernels in several processes at once, into Triton's cache on disk, where their launches find them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

from dse.kernels.kernel_jobs import KernelJob
from dse.version import IMPORT_ROOT

_MOST = 16
"""Processes, at most, where nobody says how many."""


class Compiled(NamedTuple):
    """``kernels`` that were asked for and were not in the cache; of them ``done``; ``failed``: why, for each that was
    refused; ``left``: about how many seconds the others take, None before the first is done."""

    kernels: int
    done: int
    failed: tuple[str, ...]
    left: float | None


class CompilePool:
    """Up to ``processes`` processes (0: as many as this one has processors, at most 16), started one by one as kernels
    come. Those with the most constants, which take longest, come first. A context manager: at its end all processes
    have ended.
    """

    def __init__(self, processes: int = 0) -> None:
        self._most = processes or min(_MOST, _processors())
        self._todo: list[tuple[int, int, KernelJob]] = []
        self._keys: set[str] = set()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._began: float | None = None
        self._kernels, self._done, self._failed, self._closed = 0, 0, list[str](), False
        self._work_of_all, self._work_done = 0, 0

    def __enter__(self) -> CompilePool:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._todo.clear()
            self._changed.notify_all()
        for child in self._children:
            child.terminate()
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
            return Compiled(self._kernels, self._done, tuple(self._failed), left)

    def _finished(self) -> bool:
        return self._done + len(self._failed) == self._kernels

    def _work(self) -> None:
        """One thread feeds one process; where that dies, the kernel it had is noted as failed, and another starts."""
        child: subprocess.Popen[bytes] | None = None
        while (job := self._next()) is not None:
            try:
                if child is None or child.poll() is not None:
                    child = _start()
                    self._children.append(child)
                answer = _ask(child, job)
            except Exception as error:  # noqa: BLE001 - its launch compiles the kernel
                answer = f"{type(error).__name__}: {error}"
            with self._changed:
                if answer == "ok":
                    self._done += 1
                else:
                    self._failed.append(f"{job.kernel.name}: {answer}")
                self._work_done += len(job.constants)
                self._changed.notify_all()
        if child is not None:
            with suppress(OSError):  # it may have ended
                child.communicate()

    def _next(self) -> KernelJob | None:
        with self._changed:
            self._changed.wait_for(lambda: self._todo or self._closed)
            return None if self._closed else heappop(self._todo)[-1]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> subprocess.Popen[bytes]:
    places = os.pathsep.join(filter(None, (str(IMPORT_ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": places}
    command = [sys.executable, "-m", "dse.kernels.compile_worker"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, cwd=Path.cwd(), **pipes)


def _ask(child: subprocess.Popen[bytes], job: KernelJob) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    pickle.dump(job, child.stdin)
    child.stdin.flush()
    return child.stdout.readline().decode().strip() or "the process that compiled it ended"


__all__ = ["CompilePool", "Compiled"]
