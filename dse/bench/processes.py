"""Trials in several processes that share one device, and their total rate for several numbers of processes."""

from __future__ import annotations

import multiprocessing
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import BrokenBarrierError
from typing import Any

_START = {"eager": 90.0, "compiled": 150.0}
"""Seconds to wait for the processes to import torch, to compile, and to train their first steps."""
_END = 5.0
"""Seconds in which they may end by themselves."""
_WARM = 6
_AHEAD = 8
"""Steps that a process hands the device before it waits for the first of them."""


@dataclass(frozen=True)
class Crowd:
    """Settings of all processes: the model, the device, the numbers of processes, and ``seconds`` for each number.

    ``kind``: 'eager', or 'compiled' for the whole step through torch.compile in a CUDA graph.
    """

    name: str
    quick: bool
    device: str
    counts: tuple[int, ...]
    seconds: float
    kind: str = "eager"


def rates(crowd: Crowd) -> dict[int, float]:
    """Model-steps per second of all together, for each number of ``crowd.counts``, while that many train.

    The largest number is started once; in each phase so many of them train for ``seconds`` at the same time and the
    others wait. Raises RuntimeError with the first process's traceback when one fails or does not come up in time.
    """
    context = multiprocessing.get_context("spawn")
    counts, seconds = crowd.counts, crowd.seconds
    count, results, barrier = max(counts), context.Queue(), context.Barrier(max(counts))
    arguments = (crowd, barrier, results)
    processes = [context.Process(target=_work, args=(rank, *arguments), daemon=True) for rank in range(count)]
    for process in processes:
        process.start()
    answers = 0
    shares: dict[int, float] = dict.fromkeys(counts, 0.0)
    try:
        patience = _START[crowd.kind] + 2 * seconds * len(counts)
        for _ in range(sum(counts)):
            phase, rate = _answer(results, processes, patience)
            answers += 1
            shares[phase] += rate
    finally:
        end = time.monotonic() + (_END if answers == sum(counts) else 0)
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.terminate()
    return shares


def _answer(results: Any, processes: Sequence[Any], patience: float) -> tuple[int, float]:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            phase, rate, error = results.get(timeout=0.5)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError("a process was killed; is the device's memory full?") from None
            continue
        if error:
            raise RuntimeError(error)
        return phase, rate
    raise RuntimeError(f"no answer from the processes in {patience:.0f} s")


def _step(crowd: Crowd) -> Callable[[], None]:
    """One process's trial, ready to train."""
    from dse.bench.models import EVERY

    if crowd.kind == "compiled":
        from torch._inductor import config

        from dse.bench.compiled import CompiledTrial, compiler

        config.compile_threads = 1  # what another process has compiled is on disk
        return CompiledTrial(EVERY[crowd.name](crowd.quick), crowd.device, True, backend=compiler(crowd.quick)).step
    from dse.bench.eager import Solo

    return Solo(EVERY[crowd.name](crowd.quick), crowd.device).step


def _rate(step: Callable[[], None], crowd: Crowd) -> float:
    """Steps per second; no process hands the device many more than it has done, so that all end together."""
    import torch

    from dse.bench.rate import wait

    cuda, pending = crowd.device.startswith("cuda"), deque[Any]()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < crowd.seconds:
        step()
        done += 1
        if cuda:
            pending.append(torch.cuda.Event())
            pending[-1].record()
            if len(pending) > _AHEAD:
                pending.popleft().synchronize()
    wait(crowd.device)
    return done / (time.perf_counter() - start)


def _work(rank: int, crowd: Crowd, barrier: Any, results: Any) -> None:
    """The body of one process."""
    try:
        import torch

        from dse.bench.rate import wait

        torch.set_num_threads(1)
        step = _step(crowd)
        for _ in range(_WARM):
            step()
        wait(crowd.device)
        for count in crowd.counts:
            barrier.wait(_START[crowd.kind])
            if rank < count:
                results.put((count, _rate(step, crowd), ""))
        barrier.wait(_START[crowd.kind])
    except BrokenBarrierError:  # another process has told why
        return
    except Exception:  # noqa: BLE001 - the parent process raises it
        results.put((0, 0.0, traceback.format_exc()))
        barrier.abort()
