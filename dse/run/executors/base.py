"""What an executor is: it takes cells and hands back records, one by one, as they are ready."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dse.errors import UserError
from dse.run.record import FAILED, Record

if TYPE_CHECKING:
    from dse.sweep import Cell
    from dse.trial import Trial

OnRecord = Callable[["Cell", Record], None]
OnProgress = Callable[[int], None]
"""Called with the number of trials that are running, at least about once a second: the heartbeat of the display."""


class Stop(Protocol):
    """Whether somebody asked for no further trials (a threading.Event will do)."""

    def is_set(self) -> bool: ...


class Executor(Protocol):
    """Runs cells, each once, packed with those that can share a pack, in the sweep's order otherwise.

    Every worker uses one torch thread, so that all executors agree bit for bit.

    ``run`` calls ``on_record`` in the calling thread, as soon as a trial is finished: only the caller writes results,
    so workers that outlive a killed driver cannot add any. Once ``stop`` is set no trial is begun and those that run
    are waited for; KeyboardInterrupt abandons them. UserError of a trial (missing data, say) is raised at once.
    """

    @property
    def workers(self) -> int:
        """Trials at a time, as far as is known before the start."""
        ...

    def run(self, cells: Sequence[Cell], on_record: OnRecord, on_progress: OnProgress, stop: Stop) -> None: ...


@dataclass(frozen=True)
class Options:
    """``workers``: trials at a time, None for one per processor (or GPU); ``device``: of torch, cpu or cuda."""

    workers: int | None = None
    data_dir: Path | None = None
    device: str = "cpu"


LIMITS = {"cpu": 32, "cuda": 512}
"""The widest pack that is handed to a worker."""


def widest(device: str) -> int:
    """The limit for a device."""
    return LIMITS["cuda" if device.startswith("cuda") else "cpu"]


class Worker:
    """One place where packs run one after the other: this process, or a Ray actor."""

    def __init__(self, data_dir: Path | None, device: str) -> None:
        import torch

        torch.set_num_threads(1)  # one and two threads are not bit-equal
        self._data_dir, self._device = data_dir, device

    def run(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        width: int | None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Record]:
        """Records of the first ``width`` trials, which can share a pack; None: of as many as a measurement finds best.

        Data is loaded once per process (``train.load``).
        """
        from dse.run.train import load, run_pack
        from dse.run.width import measured_width

        if width is None and len(trials) > 1:
            width = measured_width(trials, load(trials[0].task, self._data_dir, self._device)[0], self._device)
        return run_pack(trials[:width], configs[:width], self._data_dir, self._device, on_step)


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
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # another control group version, or 'max'
        return count


def lost(cell: Cell, reason: str, device: str) -> Record:
    """The record of a trial that took its worker with it."""
    from dse.run.train import versions

    trial = cell.trial
    return Record(
        uid=trial.uid,
        baseline_uid=cell.baseline_uid,
        status=FAILED,
        task=trial.task.name,
        recipe=trial.recipe.name,
        config=cell.config,
        seed=trial.seed,
        trial=trial.spec,
        error=reason,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device,
        host=socket.gethostname(),
        versions=versions(),
    )
