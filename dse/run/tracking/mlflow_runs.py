"""The MLflow database ``results/mlflow.db``, made from the results: one experiment per sweep, one run per cell.

It is written after the records are stored, may be deleted, and is rebuilt from them. A run that was being written when
its process died has no end, and is replaced by the next ``project``.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dse.errors import UserError
from dse.files import replacing
from dse.results.by_device import TrialRecords
from dse.results.lock import InUse
from dse.results.manifest import Manifest, read_manifests
from dse.results.store import Store
from dse.run.tracking.saved_view import VIEW, VIEW_TAG
from dse.shell import command

if TYPE_CHECKING:
    from dse.sweep import Sweep

DATABASE = "mlflow.db"
BEHIND = ".mlflow-behind"
"""Begins the names of the files that mark a results folder with records that may have no run yet: a driver at work on
them makes one, and leaves it behind where it was killed, where MLflow failed, or where another driver was writing. The
file names the sweep."""

_AT_ONCE = 200
"""Whole records in memory: with probes, megabytes each."""


def project(store: Store, sweeps: Sequence[Sweep] | None = None) -> int:
    """Adds the runs that are missing, of the given sweeps or of every sweep ever run here; returns how many.

    Raises UserError when a driver is at work on the folder: that one adds them by itself.
    """
    with store.lock():
        seen = _marks(store.folder)
        manifests = _manifests(store, sweeps)
        count = _project(store, store.folder / DATABASE, manifests)
        _unmark(seen, None if sweeps is None else {manifest.identity for manifest in manifests})
    return count


def catch_up(store: Store) -> int:
    """Adds the runs of drivers that have ended but could not write, because another one did; returns how many.

    The driver that ends last finds the marks of all others: each marks the folder before it tries to take the lock, and
    looks for marks after it has released it.
    """
    count = 0
    while _marks(store.folder):
        try:
            with store.lock():
                seen = _marks(store.folder)
                names = set(map(_marked, seen))
                wanted = [own for own in read_manifests(store.folder) if own.identity in names or "" in names]
                count += _project(store, store.folder / DATABASE, wanted)
                _unmark(seen)
        except InUse:  # the driver that has it looks for marks when it ends
            break
    return count


def mark(results: Path, identity: str) -> Path:
    """Marks that a sweep may have records without a run. Raises OSError where the folder cannot be written."""
    path = results / f"{BEHIND}.{time.time_ns():x}-{os.getpid()}-{next(_serial)}"
    path.write_text(identity, encoding="utf-8")
    return path


def rebuild(store: Store, sweeps: Sequence[Sweep] | None = None) -> int:
    """Replaces the database by a fresh one; returns how many runs it has. Raises UserError as ``project`` does."""
    final = store.folder / DATABASE
    with store.lock():
        seen, manifests = _marks(store.folder), _manifests(store, sweeps)
        fresh = final.with_name(f"{DATABASE}.{os.getpid()}-{next(_serial)}.tmp")
        with replacing(final, fresh):
            count = _project(store, fresh, manifests)
        _tidy(final)
        _forget(final)
        _unmark(seen, None if sweeps is None else {manifest.identity for manifest in manifests})
    return count


def is_behind(results: Path) -> bool:
    """Whether ``project`` may have something to add."""
    return bool(_marks(results))


def is_damaged(results: Path) -> bool:
    """Whether there is a database that SQLite cannot read, as far as its structure tells."""
    database = results / DATABASE
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(f"file:{database.resolve()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.OperationalError:  # locked, or not permitted
        return False
    except sqlite3.DatabaseError:
        return True


def _marks(results: Path) -> list[Path]:
    return sorted(results.glob(BEHIND + "*"))


def _marked(path: Path) -> str:
    """The identity of the sweep that a mark is about; '' for one from before, which may be about any."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # it has just gone
        return ""


def _unmark(marks: Iterable[Path], names: Collection[str] | None = None) -> None:
    """Removes marks; with ``names`` only those of these sweeps."""
    for path in marks:
        if names is None or _marked(path) in names:
            path.unlink(missing_ok=True)


def dashboard_command(results: Path, port: int = 5000) -> list[str]:
    """The command that serves MLflow's pages on this machine's port; for ``subprocess.run`` or a person.

    Without MLflow's job runners it is 2 processes and 450 MiB instead of 10 and 1.9 GiB.
    """
    database = (results / DATABASE).resolve()
    if not database.exists():
        again = command("dashboard", results=results, rebuild=True)
        raise UserError(f"{database} does not exist; run a sweep first, or use `{again}`")
    settings = ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true"]
    server = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{database}"]
    return ["env", *settings, *server, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


@dataclass(frozen=True)
class Links:
    """Addresses of one experiment's pages in MLflow: ``runs``, a table sorted by gap, and ``charts``, of accuracy
    against cost (empty for a database from before they were saved)."""

    experiment: str
    runs: str
    charts: str = ""


def links(results: Path, port: int) -> list[Links]:
    """The pages of every experiment, the one with the newest run first."""
    query = (
        "SELECT e.name, e.experiment_id, count(t.value) FROM experiments e "
        "JOIN runs r ON r.experiment_id = e.experiment_id "
        "LEFT JOIN experiment_tags t ON t.experiment_id = e.experiment_id AND t.key = ? "
        "WHERE e.lifecycle_stage = 'active' GROUP BY e.experiment_id ORDER BY max(r.end_time) DESC"
    )
    with closing(sqlite3.connect(f"file:{(results / DATABASE).resolve()}?mode=ro", uri=True)) as connection:
        found = connection.execute(query, (VIEW_TAG,)).fetchall()
    pages = [(name, f"http://127.0.0.1:{port}/#/experiments/{number}/runs", saved) for name, number, saved in found]
    order = f"orderByKey={quote('metrics.`gap`')}&orderByAsc=true"
    view = f"viewStateShareKey={VIEW}"  # has its own order; one in the link would hide the view
    charts = f"{view}&compareRunsMode=CHART"
    return [
        Links(name, f"{page}?{view}", f"{page}?{charts}") if saved else Links(name, f"{page}?{order}")
        for name, page, saved in pages
    ]


_serial = itertools.count()  # MLflow caches one store per database name for ever, so no name is used twice


def _project(store: Store, database: Path, manifests: Iterable[Manifest]) -> int:
    from dse.run.tracking.projection import Projection

    count = 0
    for manifest in manifests:
        wanted = {uid for entry in manifest.entries for uid in (entry.uid, entry.baseline_uid)}
        records = store.on_each_device(wanted, without=("curve", "evals", "probes"))
        trials = TrialRecords.of(records, {entry.uid: entry.baseline_uid for entry in manifest.entries})
        known = trials.counting
        waiting = {entry.uid for entry in manifest.entries if entry.uid not in known}
        projection = Projection(database, manifest.title)
        entries = {
            entry.uid: entry
            for entry in manifest.entries
            if not waiting & {entry.uid, entry.baseline_uid}  # a gap needs the baseline's record
            and not projection.has(known[entry.uid])
        }
        uids = list(entries)
        for first in range(0, len(uids), _AT_ONCE):
            for record in store.on_each_device(uids[first : first + _AT_ONCE]):
                entry = entries[record.uid]
                if record.device == known[record.uid].device:
                    count += projection.add(entry, record, trials.compared(record, entry.baseline_uid))
        projection.close()
    return count


def _manifests(store: Store, sweeps: Sequence[Sweep] | None) -> Sequence[Manifest]:
    found = read_manifests(store.folder) if sweeps is None else [Manifest.of(sweep, store.folder) for sweep in sweeps]
    if not found:
        raise UserError(f"no sweep has been run into {store.folder} yet")
    return found


def _tidy(database: Path) -> None:
    """Removes the artifacts of runs that are no more."""
    from dse.run.tracking.projection import ARTIFACTS

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
