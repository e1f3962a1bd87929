"""How often per second a function can be called within a time, on any device; and its peak memory."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch


def pace(step: Callable[[], object], device: str, seconds: float) -> float:
    """Calls of ``step`` per second of wall clock, over ``seconds``, after a warm-up.

    A GPU warms up for a fifth of that time and at least five calls; the CPU for one call. The device is waited for at
    the start and at the end, and in between only as often as the calls double.
    """
    step()
    if device.startswith("cuda"):
        for _ in range(4):
            step()
        _spend(step, device, seconds / 5)
    return _spend(step, device, seconds)


def _spend(step: Callable[[], object], device: str, seconds: float) -> float:
    wait(device)
    start, done, chunk = time.perf_counter(), 0, 1
    while True:
        for _ in range(chunk):
            step()
        wait(device)
        done += chunk
        spent = time.perf_counter() - start
        if spent >= seconds:
            return done / spent
        chunk = max(1, min(2 * chunk, int(done / spent * (seconds - spent)) + 1))


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def tidy(device: str) -> None:
    """Gives the memory of what is gone back, and starts a new peak."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float | None:
    """The largest GiB that tensors took on the device since ``tidy``; None on the CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else None


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after ``seconds``, at the next line of Python; in the main thread only."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
