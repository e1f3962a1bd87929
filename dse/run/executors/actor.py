"""Ray actor that runs packs for the pool: a ``Worker`` in a process of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.results.record import Record
from dse.run.executors.worker import Worker
from dse.run.executors.worker_log import WorkerLog
from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.train.halving import RungTarget
    from dse.trial import Trial


class Actor(Worker):
    """A worker whose methods are called remotely. A UserError comes back as a value: Ray would wrap it in a
    traceback."""

    def __init__(self, options: RunOptions) -> None:
        super().__init__(options)
        self._log = WorkerLog()
        self._log.install()
        self._unsent = deque[Record]()  # finished, and not yet returned by ``progress``
        self.on_done = self._unsent.extend

    def ready(self) -> None:
        """Answers once the process is up and torch is imported."""

    def attempt(
        self,
        trials: Sequence[Trial],
        configs: Sequence[str],
        width: int | None,
        target: RungTarget | None,
        splits: tuple[str, ...] = (),
    ) -> list[Record] | str:
        """Runs a pack (``Worker.run``); returns its records, or the text of a UserError."""
        try:
            return self.run(trials, configs, width, target=target, splits=splits)
        except UserError as error:
            return str(error)
        finally:
            self._unsent.clear()

    def progress(self, stopping: bool, grace: float | None = None) -> tuple[int, float, list[str], list[Record]]:
        """``running``, ``done``, the lines printed and the records finished since the last call.

        Called while ``attempt`` runs, which returns all of its records at its end. ``stopping``: calls ``stop``.
        """
        if stopping:
            self.stop(grace)
        unsent = [self._unsent.popleft() for _ in range(len(self._unsent))]
        return self.running, self.done, self._log.drain(), unsent


__all__ = ["Actor"]
