"""The protocol of executors: they take items from a work queue and hand back records as they are ready."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dse.errors import UserError
from dse.results.record import FAILED, Record
from dse.run.queue.pack_queue import WorkQueue
from dse.train.context import SPLIT

if TYPE_CHECKING:
    from dse.sweep import Cell
    from dse.trial import Trial

OnRecords = Callable[[Sequence[tuple["Cell", Record]]], None]
"""Called with what one pack left behind."""
OnProgress = Callable[[int, float], None]
"""Called at least about once a second, the heartbeat of the display: with the number of trials that are running, and
how much of them is done, in trials' worth (two half-way through: 1.0)."""


class Stop(Protocol):
    """Whether somebody asked for no further trials (a threading.Event will do).

    It may have ``grace``: seconds that a running pack may take to its end then (``patience``).
    """

    def is_set(self) -> bool: ...


def patience(stop: Stop) -> float | None:
    """Seconds that a running pack may take yet once ``stop`` is set; None: as many as between two checkpoints."""
    grace: float | None = getattr(stop, "grace", None)
    return grace


class Executor(Protocol):
    """Runs what a queue hands out, until it is exhausted.

    Every worker uses one torch thread, so that all executors agree bit for bit.

    ``run`` calls ``on_records`` in the calling thread, as soon as a pack is finished: only the caller writes results,
    so workers that outlive a killed driver cannot add any. Once ``stop`` is set no trial is begun and those that run
    are waited for; KeyboardInterrupt abandons them. UserError of a trial (missing data, say) is raised at once.
    """

    @property
    def workers(self) -> int:
        """Packs at a time, as far as is known before the start."""
        ...

    @property
    def limit(self) -> int:
        """The widest pack to hand out."""
        ...

    def run(self, queue: WorkQueue, on_records: OnRecords, on_progress: OnProgress, stop: Stop) -> None: ...


@runtime_checkable
class Pruner(Executor, Protocol):
    """An executor that decides itself who stops at a rung. It is handed whole configurations: the seeds of one."""

    def recall(self, cells: Sequence[Cell], known: Sequence[Record]) -> None:
        """Told before it runs: all cells of the sweep, and the results that there are of them."""
        ...


LIMITS = {"cpu": 32, "cuda": 512}
"""The widest pack that is handed to a worker."""


def widest(device: str) -> int:
    """The limit for a device."""
    return LIMITS["cuda" if device.startswith("cuda") else "cpu"]


def check_device(device: str) -> None:
    """Raises UserError for a device that torch does not know or cannot find here."""
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; valid: cpu, cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch {torch.__version__} finds no GPU on this machine")


def processors() -> int:
    """Processors this process may use: its affinity, and the quota of its control group (a container's limit)."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # another control group version, or 'max'
        return count


def lost(
    trial: Trial, config: str, reason: str, device: str, seconds: float = 0.0, splits: Sequence[str] = ()
) -> Record:
    """The record of a trial that came to no end: it took its worker with it, or took too long. ``splits``: why it was
    alone, see ``Setup``."""
    from dse.train.loop import versions

    return Record(
        uid=trial.uid,
        baseline_uid=trial.baseline().uid,
        status=FAILED,
        task=trial.task.name,
        recipe=trial.recipe.name,
        config=config,
        seed=trial.seed,
        trial=trial.spec,
        error=reason,
        seconds=seconds,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device,
        host=socket.gethostname(),
        versions=versions(),
        pack={SPLIT: list(splits)} if splits else {},
    )
