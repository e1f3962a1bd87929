"""Eager trials in several processes that share one device, and their total rate for several numbers of processes."""

from __future__ import annotations

import multiprocessing
import queue
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from threading import BrokenBarrierError
from typing import Any

_START = 90.0
"""Seconds to wait for the processes to import torch and to train their first steps."""
_END = 5.0
"""Seconds in which they may end by themselves."""
_WARM = 3


@dataclass(frozen=True)
class _Crowd:
    """Settings of all processes: the model, the device, the numbers of processes, and ``seconds`` for each number."""

    name: str
    quick: bool
    device: str
    counts: tuple[int, ...]
    seconds: float


def rates(name: str, quick: bool, device: str, counts: Sequence[int], seconds: float) -> dict[int, float]:
    """Model-steps per second of all together, for each number of ``counts``, while that many train.

    The largest number is started once; in each phase so many of them train for ``seconds`` at the same time and the
    others wait. Raises RuntimeError with the first process's traceback when one fails or does not come up in time.
    """
    context = multiprocessing.get_context("spawn")
    count, results, barrier = max(counts), context.Queue(), context.Barrier(max(counts))
    crowd = _Crowd(name, quick, device, tuple(counts), seconds)
    arguments = (crowd, barrier, results)
    processes = [context.Process(target=_work, args=(rank, *arguments), daemon=True) for rank in range(count)]
    for process in processes:
        process.start()
    answers = 0
    shares: dict[int, float] = dict.fromkeys(counts, 0.0)
    try:
        patience = _START + 2 * seconds * len(counts)
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


def _work(rank: int, crowd: _Crowd, barrier: Any, results: Any) -> None:
    """The body of one process."""
    try:
        import torch

        from dse.bench.eager import Solo
        from dse.bench.models import SUBJECTS
        from dse.bench.rate import wait

        torch.set_num_threads(1)
        trial = Solo(SUBJECTS[crowd.name](crowd.quick), crowd.device)
        for _ in range(_WARM):
            trial.step()
        wait(crowd.device)
        for count in crowd.counts:
            barrier.wait(_START)
            if rank < count:
                start, done = time.perf_counter(), 0
                while time.perf_counter() - start < crowd.seconds:
                    trial.step()
                    done += 1
                wait(crowd.device)
                results.put((count, done / (time.perf_counter() - start), ""))
        barrier.wait(_START)
    except BrokenBarrierError:  # another process has told why
        return
    except Exception:  # noqa: BLE001 - the parent process raises it
        results.put((0, 0.0, traceback.format_exc()))
        barrier.abort()
