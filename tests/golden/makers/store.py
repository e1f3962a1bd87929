"""Golden of a results folder: lines of shards, claims, the manifest, the Parquet file, and what MLflow is told."""

from __future__ import annotations

import json
import re
from contextlib import chdir
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

from tests.golden.makers.common import digest, digest_of
from tests.golden.makers.fixed import RESULTS, SHARD

_WROTE = re.compile(r"\d{8}T\d{6}\.\d{6}Z-.*-\d+")


def store() -> dict[str, Any]:
    """The fixed results: read and written again, line by line; compacted; projected."""
    with TemporaryDirectory() as folder, chdir(folder):
        copytree(RESULTS, "results")
        return _lines() | _claims() | _manifest() | _compacted() | _projected()


def _lines() -> dict[str, Any]:
    """The checksum of each line as it is written today, by uid; the names of the keys in their order."""
    from dse.results.store import Store

    Path("again").mkdir()
    old, new = Store(Path("results")), Store(Path("again"))
    for record in old.records():
        new.append(record)
    new.close()
    (path,) = Path("again", "shards").iterdir()
    lines = path.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return {
        "shard": {"name": _WROTE.sub("TIME-HOST-PID", path.as_posix()), "lines": len(lines)},
        "shard: keys": list(records[0]),
        "shard: as it was written": sorted(lines) == sorted(SHARD.read_text(encoding="utf-8").splitlines()),
        "shard: checksums": {record["uid"]: record["crc"] for record in records},
        "done": digest_of(sorted(f"{uid} {status}" for uid, status in old.done().items())),
        "damage": str(old.damage),
    }


def _claims() -> dict[str, Any]:
    """The file of a driver that has claimed trials and given one back."""
    from dse.results.claims import Claims, running_drivers

    own = Claims(Path("results"))
    with own.lock():
        own.claim(["a" * 16, "b" * 16])
        own.release(["b" * 16])
    (path,) = Path("results").glob("claims/*.claims")
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    form = re.sub(r"[0-9a-f]+-\d+", "TIME-PID", path.as_posix())
    seen = [sorted(uids) for _, uids in running_drivers(Path("results"))]
    own.close()
    return {"claims": {"file": form, "keys of the first line": list(json.loads(first)), "lines": lines, "seen": seen}}


def _manifest() -> dict[str, Any]:
    """Of the study: the keys, what stands outside the cells, and a digest of these."""
    from dse.results.manifest import Manifest
    from dse.sweep import load_sweep

    results = Path("results")
    Manifest.of(load_sweep(results / "study.yaml"), results, {"device": "cpu"}).write(results)
    (path,) = results.glob("sweeps/*.json")
    own = json.loads(path.read_text(encoding="utf-8").replace(str(Path.cwd()), "FOLDER"))
    entries = [json.dumps(entry) for entry in own.pop("entries")]
    return {"manifest": {"file": path.as_posix()} | own, "manifest: cells": digest_of(entries)}


def _compacted() -> dict[str, Any]:
    """The files, the columns and their types, the names of the metadata, and that every record is still there."""
    from pyarrow.parquet import ParquetFile

    from dse.results.store import Store

    own = Store(Path("results"))
    before = [record.line() for record in own.records()]
    count = own.compact()
    file = ParquetFile(own.parquet)
    frame = own.frame()
    return {
        "compaction": {"shards": count, "files": _files(Path("results"))},
        "parquet: columns": {field.name: str(field.type) for field in file.schema_arrow},
        "parquet: metadata": sorted(key.decode() for key in (file.schema_arrow.metadata or {})),
        "parquet: rows": [file.metadata.num_rows, file.metadata.num_row_groups],
        "parquet: same records": [record.line() for record in Store(Path("results")).records()] == before,
        "frame": {name: str(kind) for name, kind in frame.schema.items()},
        "frame: content": digest(frame.write_ndjson()),
    }


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _projected() -> dict[str, Any]:
    """Every MLflow run of the study: its name, status, times, parameters, tags, and metrics with their points."""
    import sqlite3
    from contextlib import closing

    from dse.results.store import Store
    from dse.run.tracking.mlflow_runs import DATABASE, rebuild

    rebuild(Store(Path("results")))
    with closing(sqlite3.connect(Path("results", DATABASE))) as database:

        def rows(query: str) -> list[Any]:
            return database.execute(query).fetchall()

        uids = dict(rows("select run_uuid, value from tags where key = 'uid'"))
        points = rows("select run_uuid, key, step, value from metrics")
        told: dict[str, dict[str, Any]] = {uid: {"params": {}, "tags": {}, "metrics": {}} for uid in uids.values()}
        for table in ("params", "tags"):
            for run, key, value in rows(f"select run_uuid, key, value from {table}"):
                told[uids[run]][table][key] = value
        for run, key, step, value in sorted(points):
            told[uids[run]]["metrics"].setdefault(key, []).append([step, float(f"{value:.9g}")])
        for run, name, status, start, end in rows("select run_uuid, name, status, start_time, end_time from runs"):
            told[uids[run]]["run"] = [name, status, start, end]
        experiments = rows("select name from experiments order by name")
    one = {kind: sorted({key for own in told.values() for key in own[kind]}) for kind in ("params", "tags", "metrics")}
    whole = {f"mlflow: {uid}": digest(json.dumps(own, sort_keys=True)) for uid, own in sorted(told.items())}
    examples = {own["run"][1]: own for _, own in sorted(told.items())}  # one of each status
    return {
        "mlflow: database": DATABASE,
        "mlflow: experiments": [name for (name,) in experiments],
        "mlflow: names": one,
        **{f"mlflow: a run that is {status}": own for status, own in sorted(examples.items())},
        **whole,
    }
