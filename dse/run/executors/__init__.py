"""Executors run the packs of a queue: in this process, in Ray actors, or as Ray Tune trials.

A new executor is a file with a class (``Executor``) and an entry in ``EXECUTORS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dse.run.executors.base import Executor, Pruner
from dse.train.options import RunOptions


def _local(options: RunOptions) -> Executor:
    from dse.run.executors.local import LocalExecutor

    return LocalExecutor(options)


def _ray(options: RunOptions) -> Executor:
    from dse.run.executors.ray import RayExecutor

    return RayExecutor(options)


def _tune(options: RunOptions) -> Executor:
    from dse.run.executors.tune import TuneExecutor

    return TuneExecutor(options)


EXECUTORS: dict[str, Callable[[RunOptions], Executor]] = {"local": _local, "ray": _ray, "tune": _tune}
"""Name on the command line -> how to make it; nothing is imported before it is needed."""


def make_executor(options: RunOptions) -> Executor:
    """The executor of these options, with absolute paths: a worker may run in another folder."""
    data_dir = options.data_dir.resolve() if options.data_dir else None
    results = options.results.resolve() if options.results else None
    return EXECUTORS[options.executor](replace(options, data_dir=data_dir, results=results))


__all__ = ["EXECUTORS", "Executor", "Pruner", "make_executor"]
