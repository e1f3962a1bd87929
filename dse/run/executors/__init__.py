"""Ways to run trials: the same trial function, in this process or in Ray actors. A new way is a file and an entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError, nearest
from dse.run.executors.base import Executor, Options, Pruner
from dse.train.halving import HalvingRule

if TYPE_CHECKING:
    from dse.probes import Probes


def _local(options: Options) -> Executor:
    from dse.run.executors.local import LocalExecutor

    return LocalExecutor(options)


def _ray(options: Options) -> Executor:
    from dse.run.executors.ray import RayExecutor

    return RayExecutor(options)


def _tune(options: Options) -> Executor:
    from dse.run.executors.tune import TuneExecutor

    return TuneExecutor(options)


EXECUTORS: dict[str, Callable[[Options], Executor]] = {"local": _local, "ray": _ray, "tune": _tune}
"""Name on the command line -> how to make it; nothing is imported before it is needed."""

DEFAULT = "ray"


def make_executor(
    name: str,
    workers: int | None,
    data_dir: Path | None,
    device: str,
    timeout: float | None = None,
    halving: HalvingRule | None = None,
    probes: Probes | None = None,
    results: Path | None = None,
    gpus: float = 1.0,
) -> Executor:
    """Raises UserError for an unknown name, and for numbers that mean nothing."""
    if name not in EXECUTORS:
        raise UserError(f"unknown executor {name!r}{nearest(name, EXECUTORS)}")
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    if timeout is not None and not timeout > 0:
        raise UserError(f"timeout must be more than 0 seconds, not {timeout:g}")
    if not 0 < gpus <= 1:
        raise UserError(f"GPUs per worker must be more than 0 and at most 1, not {gpus:g}")
    folder = data_dir.resolve() if data_dir else None
    return EXECUTORS[name](
        Options(workers, folder, device, timeout, halving, probes, results.resolve() if results else None, gpus=gpus)
    )


__all__ = ["DEFAULT", "EXECUTORS", "Executor", "Options", "Pruner", "make_executor"]
