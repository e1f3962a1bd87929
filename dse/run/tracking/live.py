"""Live MLflow tracking: a background thread writes finished records, and can neither fail nor delay a trial."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dse.results.manifest import Manifest
from dse.results.record import Record
from dse.run.tracking.mlflow_runs import DATABASE, mark
from dse.run.tracking.projection import Projection
from dse.shell import command


class Tracker:
    """Projects records in the order they come; a cell waits for its baseline's record, which its gap needs.

    In a sweep that was stopped it may wait for the next run of that sweep.
    A failure ends the projection, not the sweep; ``close`` says so in one line.
    """

    def __init__(self, results: Path, manifest: Manifest, known: Iterable[Record]) -> None:
        self._results, self._manifest = results, manifest
        self._entries = {entry.uid: entry for entry in manifest.entries}
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._offered, self._written, self._held = 0, 0, 0
        self._failure = ""
        self._mark: Path | None = None
        with suppress(OSError):
            self._mark = mark(results, manifest.identity)
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        for record in known:
            self._offer(record)

    def put(self, record: Record) -> None:
        """A record that is safely stored. The first one starts the thread: MLflow's import would slow Ray's start."""
        self._offer(record)
        if self._thread.ident is None:
            self._thread.start()

    def grow(self, manifest: Manifest, known: Iterable[Record]) -> None:
        """The sweep has more cells by now; ``known``: the results that there are of them."""
        self._entries.update((entry.uid, entry) for entry in manifest.entries)
        for record in known:
            self._offer(record)

    def close(self, seconds: float) -> str:
        """Waits for what is queued, at most so long; returns the warning to show, or nothing."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(seconds)
        missing = self._offered - self._written - self._held
        if not missing and not self._failure:
            if not self._held and self._mark:
                with suppress(OSError):
                    self._mark.unlink(missing_ok=True)
            return ""
        why = f" ({self._failure})" if self._failure else ""
        again = command("dashboard", results=self._results, rebuild=True)
        return f"MLflow: {missing} runs not yet projected{why}; `{again}` adds them"

    def _offer(self, record: Record) -> None:
        if record.uid in self._entries:
            self._offered += 1
            self._queue.put(record)

    def _run(self) -> None:
        try:
            self._project()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here is no business of the trials
            lines = str(error).strip().splitlines()
            self._failure = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

    def _project(self) -> None:
        projection = Projection(self._results / DATABASE, self._manifest.title)
        known: dict[str, Record] = {}  # without what fills megabytes: there may be very many
        waiting: dict[str, list[Record]] = defaultdict(list)
        while (record := self._queue.get()) is not None:
            known[record.uid] = replace(record, curve=[], evals=[], probes=[])
            entry = self._entries[record.uid]
            if entry.baseline_uid in known:
                self._write(projection, record, known)
            else:
                waiting[entry.baseline_uid].append(record)
            for freed in waiting.pop(record.uid, ()):
                self._write(projection, freed, known)
        for baseline_uid, held in waiting.items():
            for record in held if baseline_uid not in self._entries else ():
                self._write(projection, record, known)
            self._held += len(held) if baseline_uid in self._entries else 0
        projection.close()

    def _write(self, projection: Projection, record: Record, known: dict[str, Record]) -> None:
        entry = self._entries[record.uid]
        projection.add(entry, record, known.get(entry.baseline_uid))
        self._written += 1
