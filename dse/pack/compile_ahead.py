"""Compiles the kernels of packs before they train: in several processes, all of them at once.

Without it a step would compile each kernel at its first launch, one after another, which takes minutes where a pack
mixes many recipes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, NamedTuple

from dse.kernels.availability import Gpu
from dse.kernels.compile_pool import LIMIT, Compiled, CompilePool
from dse.kernels.recording import OnKernel
from dse.pack.grouping import member_order
from dse.pack.kernel_list import list_kernels
from dse.text import duration, plural
from dse.trial import Trial

Say = Callable[[str], None]
_PATIENCE = 5.0
"""Seconds between lines about the progress, and before the first."""
_LONG = 60.0
"""Seconds after which a line names the kernel that is being compiled."""


class Ahead(NamedTuple):
    """``kernels`` that were compiled, in ``seconds``; ``packs`` whose kernels are known; ``problems``: what was left to
    be compiled, or found out, when it is needed, and why."""

    kernels: int
    seconds: float
    packs: int
    problems: tuple[str, ...]


def to_stderr(line: str) -> None:
    """Prints a line at once."""
    print(line, file=sys.stderr, flush=True)


def compile_ahead(
    packs: Iterable[tuple[Sequence[Trial], Any]],
    gpu: Gpu,
    processes: int = 0,
    most: float = inf,
    say: Say = to_stderr,
) -> Ahead:
    """Compiles what packs need on ``gpu``, each given by its trials in any order and its data, on any device.

    Only what is not in Triton's cache is compiled, by as many ``processes`` (0: one for each processor, at most 16),
    at most ``most`` seconds in all and ``LIMIT`` seconds a kernel. Raises nothing: what fails here is compiled when it
    is launched, and fails there.
    """
    start, found, problems = time.monotonic(), 0, list[str]()
    with CompilePool(processes) as pool:
        for trials, data in packs:
            lineup = [trials[i] for i in member_order(trials, use_kernels=True)]
            if why := _listed(lineup, data, gpu, pool.submit):
                problems.append(why)
            else:
                found += 1
            if time.monotonic() - start > most:
                break
        shown = False
        while not pool.wait(min(_PATIENCE, max(start + most - time.monotonic(), 0.0))):
            if time.monotonic() - start >= most:
                problems.append("the time for it was used up")
                break
            say(_progress(pool.state))
            shown = True
        state = pool.state
    seconds = time.monotonic() - start
    if shown:
        say(f"compiled {plural(state.done, 'kernel')} in {duration(seconds)}")
    return Ahead(state.done, seconds, found, (*problems, *state.failed))


def _listed(lineup: Sequence[Trial], data: Any, gpu: Gpu, on_kernel: OnKernel) -> str:
    """Why not all kernels of a pack could be listed, '' where they were."""
    try:
        list_kernels(lineup, data, gpu, on_kernel)
    except Exception as error:  # noqa: BLE001 - compiling at the first launch always works
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[-1]}"
    return ""


def _progress(state: Compiled) -> str:
    left = "" if state.left is None else f", about {duration(state.left)} left"
    slow = "" if state.longest is None or state.longest[1] < _LONG else _slow(*state.longest)
    failed = f", {len(state.failed)} given up" if state.failed else ""
    return f"compiling {plural(state.kernels, 'kernel')}: {state.done} done{failed}{left}{slow}"


def _slow(name: str, seconds: float) -> str:
    return f"; {name} for {duration(seconds)} (given up after {duration(LIMIT)})"


__all__ = ["Ahead", "Say", "compile_ahead", "to_stderr"]
