"""Trials in this process, one after the other: for tests, notebooks and debuggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.run.executors.base import OnProgress, OnRecord, Options, Stop, Worker, check_device

if TYPE_CHECKING:
    from dse.sweep import Cell


class LocalExecutor:
    """One trial at a time, whatever ``workers`` says."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @property
    def workers(self) -> int:
        return 1

    def run(self, cells: Sequence[Cell], on_record: OnRecord, on_progress: OnProgress, stop: Stop) -> None:
        """See ``Executor``. The caller's number of torch threads is restored at the end."""
        import torch

        check_device(self._options.device)
        threads = torch.get_num_threads()
        worker = Worker(self._options.data_dir, self._options.device)
        try:
            for cell in cells:
                if stop.is_set():
                    return
                on_record(cell, worker.run(cell.trial, cell.config, lambda step, steps: on_progress(1)))
        finally:
            torch.set_num_threads(threads)
