"""Results as MLflow runs in ``results/mlflow.db``: one experiment per sweep, one run per cell.

A projection and nothing more: it is written after the records are safe, may be deleted, and is rebuilt from them. A run
is complete when it has ended; one that was being written when its process died is replaced by the next ``project``.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.run.manifest import Manifest, read_manifests
from dse.run.store import Store

if TYPE_CHECKING:
    from dse.sweep import Sweep

DATABASE = "mlflow.db"
BEHIND = ".mlflow-behind"
"""Marks a results folder with records that may have no run yet, because a driver was killed or MLflow failed."""

_AT_ONCE = 200
"""Whole records in memory: with probes, megabytes each."""


def project(store: Store, sweeps: Sequence[Sweep] | None = None) -> int:
    """Adds the runs that are missing, of the given sweeps or of every sweep ever run here; returns how many.

    Raises UserError when a driver is at work on the folder: that one adds them by itself.
    """
    with store.lock():
        count = _project(store, store.folder / DATABASE, _manifests(store, sweeps))
        (store.folder / BEHIND).unlink(missing_ok=True)
    return count


def rebuild(store: Store, sweeps: Sequence[Sweep] | None = None) -> int:
    """Replaces the database by a fresh one; returns how many runs it has. Raises UserError as ``project`` does."""
    final = store.folder / DATABASE
    with store.lock():
        fresh = final.with_name(f"{DATABASE}.{os.getpid()}-{next(_serial)}.tmp")
        try:
            count = _project(store, fresh, _manifests(store, sweeps))
            with fresh.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(fresh, final)  # noqa: PTH105
            _tidy(final)
        finally:
            fresh.unlink(missing_ok=True)
        _forget(final)
        (store.folder / BEHIND).unlink(missing_ok=True)
    return count


def is_behind(results: Path) -> bool:
    """Whether ``project`` may have something to add."""
    return (results / BEHIND).exists()


def dashboard_command(results: Path, port: int = 5000) -> list[str]:
    """The command that serves MLflow's pages on this machine's port; for ``subprocess.run`` or a person.

    Without MLflow's job runners it is 2 processes and 450 MiB instead of 10 and 1.9 GiB.
    """
    database = (results / DATABASE).resolve()
    if not database.exists():
        raise UserError(f"{database} does not exist; run a sweep first, or use `dse dashboard --rebuild`")
    settings = ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true"]
    server = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{database}"]
    return ["env", *settings, *server, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


_serial = itertools.count()  # MLflow caches one store per database name for ever, so no name is used twice


def _project(store: Store, database: Path, manifests: Iterable[Manifest]) -> int:
    from dse.run.projection import Projection

    count = 0
    for manifest in manifests:
        wanted = {uid for entry in manifest.entries for uid in (entry.uid, entry.baseline_uid)}
        known = {record.uid: record for record in store.records(wanted, without=("curve", "evals", "probes"))}
        waiting = {entry.uid for entry in manifest.entries if entry.uid not in known}
        projection = Projection(database, manifest.name)
        entries = {
            entry.uid: entry
            for entry in manifest.entries
            if not waiting & {entry.uid, entry.baseline_uid}  # a gap needs the baseline's record
            and not projection.has(known[entry.uid])
        }
        uids = list(entries)
        for first in range(0, len(uids), _AT_ONCE):
            for record in store.records(uids[first : first + _AT_ONCE]):
                entry = entries[record.uid]
                count += projection.add(entry, record, known.get(entry.baseline_uid))
        projection.close()
    return count


def _manifests(store: Store, sweeps: Sequence[Sweep] | None) -> Sequence[Manifest]:
    found = read_manifests(store.folder) if sweeps is None else [Manifest.of(sweep) for sweep in sweeps]
    if not found:
        raise UserError(f"no sweep has been run into {store.folder} yet")
    return found


def _tidy(database: Path) -> None:
    """Removes the artifacts of runs that are no more."""
    from dse.run.projection import ARTIFACTS

    with closing(sqlite3.connect(database)) as connection:
        known = {row[0] for row in connection.execute("SELECT run_uuid FROM runs")}
    for folder in (database.parent / ARTIFACTS).glob("*/"):
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)


def _forget(database: Path) -> None:
    """Makes MLflow clients of this process open the new file instead of the replaced one."""
    from mlflow import MlflowClient

    with suppress(AttributeError):
        MlflowClient(tracking_uri=f"sqlite:///{database.resolve()}")._tracking_client.store.engine.dispose()
