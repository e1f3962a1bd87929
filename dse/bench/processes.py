"""Trials in processes of their own that share one device: their rates, one after another or several at the same time.

The processes are started before their turn and wait, compiled, until they are measured: compiling many programs takes
minutes, and does so for all of them at once.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import BrokenBarrierError
from typing import Any, NamedTuple

_START = {"eager": 90.0}
"""Seconds to wait for the processes to import torch, to compile, and to train their first steps; others:"""
_COMPILED = 240.0
_TURN = 1200.0
"""Seconds that processes wait for their turn."""
_END = 5.0
"""Seconds for an answer that is on its way."""
_WARM = 6
_AHEAD = 8
"""Steps that a process hands the device before it waits for the first of them."""
_THREADS = (2, 8)
"""That compile kernels, in the process that compiles first, at least and at most."""


@dataclass(frozen=True)
class Crowd:
    """Settings of all processes: the model, the device, the numbers of processes, and ``seconds`` for each number.

    ``kind``: 'eager'; or, the whole step through torch.compile in a CUDA graph, 'compiled' with NVFP4 fake quantization
    and 'plain' in BF16.
    """

    name: str
    quick: bool
    device: str
    counts: tuple[int, ...]
    seconds: float
    kind: str = "eager"


class CrowdRates(NamedTuple):
    """Model-steps per second of all together by their number; what the first process says; its peak memory in GiB."""

    rates: dict[int, float]
    note: str
    memory: float | None


class StartedCrowd:
    """The largest number of processes of a crowd, started; the first compiles before the others do, by ``threads``."""

    def __init__(self, crowd: Crowd, threads: int = _THREADS[1]) -> None:
        context = multiprocessing.get_context("spawn")
        self.crowd, count = crowd, max(crowd.counts)
        self._results: Any = context.Queue()
        self._go, self._ready = context.Barrier(count + 1), context.Semaphore(0)
        self._signals = (context.Event(), self._ready, self._go, context.Barrier(count))
        self._processes = [
            context.Process(target=_work, args=(rank, crowd, threads, self._signals, self._results), daemon=True)
            for rank in range(count)
        ]
        self._waited = 0
        for process in self._processes:
            process.start()

    def wait(self, end: float) -> bool:
        """Whether all processes are ready to be measured at the time ``end`` (``time.monotonic()``), or one failed."""
        while self._waited < len(self._processes):
            if self._ready.acquire(timeout=0.2):
                self._waited += 1
            elif any(process.exitcode is not None for process in self._processes):
                return True
            elif time.monotonic() > end:
                return False
        return True

    def measure(self) -> CrowdRates:
        """The rates, while so many of the processes train for ``seconds`` at the same time and the others wait.

        Raises RuntimeError with the first process's traceback when one fails or does not come up in time.
        """
        crowd = self.crowd
        rates, note, memory = dict.fromkeys(crowd.counts, 0.0), "", None
        patience = _START.get(crowd.kind, _COMPILED)
        try:
            if not self.wait(time.monotonic() + patience):
                raise RuntimeError(f"the processes are not ready after {patience:.0f} s")
            self._go.wait(_END)
            for _ in range(sum(crowd.counts)):
                phase, rate, said = self._answer(2 * crowd.seconds * len(crowd.counts) + _END)
                rates[phase] += rate
                note, memory = said or (note, memory)
        except BrokenBarrierError:
            self._answer(_END)  # raises what the process has told
        finally:
            self._end()
        return CrowdRates(rates, note, memory)

    def _answer(self, patience: float) -> tuple[int, float, tuple[str, float | None] | None]:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                phase, rate, said, error = self._results.get(timeout=0.5)
            except queue.Empty:
                if any(process.exitcode for process in self._processes):
                    raise RuntimeError("a process was killed; is the device's memory full?") from None
                continue
            if error:
                raise RuntimeError(error)
            return phase, rate, said
        raise RuntimeError(f"no answer from the processes in {patience:.0f} s")

    def _end(self) -> None:
        """Nothing that they hold is worth waiting for."""
        for process in self._processes:
            process.terminate()


_STARTED: dict[Crowd, StartedCrowd] = {}


def start(crowds: Sequence[Crowd]) -> list[StartedCrowd]:
    """Starts the processes of crowds whose turn comes later."""
    least, most = _THREADS
    threads = max(least, min(most, (os.cpu_count() or 1) // max(1, len(crowds))))
    for crowd in crowds:
        if crowd not in _STARTED:
            _STARTED[crowd] = StartedCrowd(crowd, threads)
    return [_STARTED[crowd] for crowd in crowds]


def rates(crowd: Crowd) -> CrowdRates:
    """The rates of a crowd, started before or now; see ``StartedCrowd.measure``."""
    return (_STARTED.pop(crowd, None) or StartedCrowd(crowd)).measure()


def _step(crowd: Crowd, threads: int) -> tuple[Callable[[], None], Callable[[], str]]:
    """One process's trial, ready to train, and what it says of itself; it compiles with so many threads, or 0 where the
    kernels are on disk."""
    from dse.bench.models import SUBJECTS

    subject = SUBJECTS[crowd.name](crowd.quick)
    if crowd.kind == "eager":
        from dse.bench.eager import Solo

        return Solo(subject, crowd.device).step, str
    from torch._inductor import config

    from dse.bench.compiled import CompiledTrial, compiler

    config.compile_threads = max(1, threads)
    trial = CompiledTrial(subject, crowd.device, crowd.kind == "compiled", backend=compiler(crowd.quick))
    said = trial.losses(1 if crowd.quick else CompiledTrial.SHOWN) if threads else ""
    return trial.step, lambda: said


def _rate(step: Callable[[], None], device: str, seconds: float) -> float:
    """Steps per second; no process hands the device many more than it has done, so that all end together."""
    import torch

    from dse.bench.rate import wait

    cuda, pending = device.startswith("cuda"), deque[Any]()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        done += 1
        if cuda:
            pending.append(torch.cuda.Event())
            pending[-1].record()
            if len(pending) > _AHEAD:
                pending.popleft().synchronize()
    wait(device)
    return done / (time.perf_counter() - start)


def _work(rank: int, crowd: Crowd, threads: int, signals: tuple[Any, Any, Any, Any], results: Any) -> None:
    """The body of one process."""
    led, ready, go, phase = signals
    try:
        import torch

        from dse.bench.rate import peak, wait

        torch.set_num_threads(1)
        if rank and crowd.kind != "eager":
            led.wait(_COMPILED)
        step, note = _step(crowd, 0 if rank else threads)
        for _ in range(_WARM):
            step()
        wait(crowd.device)
        led.set()
        said = (note(), peak(crowd.device)) if rank == 0 else None
        ready.release()
        go.wait(_TURN)
        for count in crowd.counts:
            phase.wait(_TURN)
            if rank < count:
                _rate(step, crowd.device, crowd.seconds / 5)
                results.put((count, _rate(step, crowd.device, crowd.seconds), said, ""))
        phase.wait(_TURN)
    except BrokenBarrierError:  # another process has told why
        return
    except Exception:  # noqa: BLE001 - the parent process raises it
        results.put((0, 0.0, None, traceback.format_exc()))
        for barrier in (go, phase):
            barrier.abort()
