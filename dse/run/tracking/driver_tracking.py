"""MLflow tracking of one driver: it writes runs while it holds the folder's lock, and otherwise leaves a mark.

One driver at a time writes to MLflow while it runs. What other drivers have run is added when they, or that one, end.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from dse.results.lock import InUse
from dse.results.manifest import Manifest
from dse.results.record import Record
from dse.results.store import Store
from dse.run.tracking.mlflow_runs import catch_up, mark
from dse.shell import command

if TYPE_CHECKING:
    from dse.run.tracking.live import Tracker


class DriverTracking:
    """Passes finished records on to MLflow. ``enabled``: False for a driver that does not track; then it does nothing.

    ``open`` first; ``close`` at the end of the run, and ``release`` after it.
    """

    def __init__(self, store: Store, enabled: bool) -> None:
        self._store, self._enabled = store, enabled
        self._tracker: Tracker | None = None
        self._lock = ExitStack()
        self._identity = ""

    def open(self, manifest: Manifest, known: Iterable[Record]) -> None:
        """``known``: the results that there are of the sweep's cells, with their curves."""
        self._identity = manifest.identity
        if not self._enabled:
            return
        try:
            self._lock.enter_context(self._store.lock())
        except InUse:
            return
        from dse.run.tracking.live import Tracker

        self._tracker = Tracker(self._store.folder, manifest, known)

    def put(self, record: Record) -> None:
        """A record that is safely stored."""
        if self._tracker:
            self._tracker.put(record)

    def grow(self, manifest: Manifest, known: Iterable[Record]) -> None:
        """The sweep has more cells by now; ``known``: the results that there are of them."""
        if self._tracker:
            self._tracker.grow(manifest, known)

    def close(self, seconds: float) -> str:
        """Waits at most so long for what is queued; returns a warning about runs that are missing, or nothing."""
        if self._tracker:
            return self._tracker.close(seconds)
        if self._enabled:
            with suppress(OSError):
                mark(self._store.folder, self._identity)
        return ""

    def release(self) -> None:
        """Lets other drivers write."""
        self._lock.close()

    def catch_up(self) -> str:
        """Writes what drivers that have ended meanwhile left behind; returns a warning where that fails, or nothing."""
        if not self._enabled:
            return ""
        try:
            catch_up(self._store)
        except Exception as error:  # noqa: BLE001 - the results are stored, and the marks stay
            first = (str(error).strip().splitlines() or [""])[0]
            why = f"{type(error).__name__}: {first}"
            later = command("dashboard", results=self._store.folder)
            return f"MLflow: some runs are not yet projected ({why}); `{later}` adds them"
        return ""


__all__ = ["DriverTracking"]
