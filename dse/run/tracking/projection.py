"""Writes cells of a sweep as MLflow runs: parameters, metrics, curves, tags and pictures."""

from __future__ import annotations

import logging
import math
import os
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import MISSING, fields
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dse.alarms.verdicts import alarms
from dse.results.gaps import gap
from dse.results.manifest import Entry
from dse.results.record import FAILED, Record
from dse.results.samples import distance, pictures
from dse.run.executors.worker_log import TrialLogs
from dse.run.tracking.probe_series import series
from dse.run.tracking.recipe_params import recipe_costs, recipe_params
from dse.run.tracking.saved_view import saved_view
from dse.sweep.language.labels import shorten
from dse.train.processor import described

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunInfo

_BATCH = 1000  # entities in a call to MLflow, its limit
_PARAMS = 100  # parameters in a call, its limit
_TEXT = 6000  # characters of a parameter, its limit
_TAGS = ("uid", "task", "recipe", "seed", "status", "device", "host")
_ENLARGED = 6  # screen pixels of a picture's pixel
PICTURES, LOG, ARTIFACTS = "samples.png", "log.txt", "mlartifacts"

DESCRIPTION = """One run is one trial of the sweep: a small model trained from scratch under a recipe.

| metric | |
| --- | --- |
| `metric` | final held-out metric of the task; lower is better |
| `gap`, `gap_percent` | `metric` minus that of the baseline of the same seed; and in percent of the baseline's |
| `gap_lost`, `improvement lost` | the gap as a share, and in percent, of the baseline's improvement over the training |
| `overhead` | modelled time of quantization in percent of three FP4 GEMMs, for a Llama-3 8B on a B200 |
| `time` | modelled time of a linear layer's GEMMs with quantization; BF16 is 1 |
| `train_loss`, `eval_metric` | curves |
| `seconds` | the trial's share of its pack's time |
| `cpu_seconds`, `memory_mib`, `gpu_memory_mib` | of the whole pack: processor time; most memory of process and GPU |

Artifacts: `samples.png`, what the model made; `log.txt`, what the trial's worker printed, and its error.

Parameters: the axes of the sweep, `training.SETTING`, and every option of the recipe: `recipe.block` over all
quantized points, `recipe.wgrad.lhs.block` at one. A search such as `params.`recipe.block` = '16' and metrics.gap <
0.01` finds runs. The view `accuracy against cost` (menu Views, then the chart symbol) draws `improvement lost` and
`gap` against `overhead` and `time`.
"""
"""The description of every experiment, in Markdown."""

_EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",  # MLflow then shows runs, not pages about language models
    "mlflow.note.content": DESCRIPTION,
    **saved_view(),
}
"""Tags of every experiment: its page in MLflow, what the names mean, and the charts."""


class Projection:
    """The experiment of one sweep, open for runs. Imports MLflow and makes the database (2 s) and the experiment."""

    def __init__(self, database: Path, name: str) -> None:
        _probe(database)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._client = MlflowClient(tracking_uri=f"sqlite:///{database.resolve()}")
        _hurry(self._client)
        self._name = name
        self._logs = TrialLogs(database.resolve().parent)
        self._experiment = self._open(database.resolve().parent / ARTIFACTS)
        self._runs = self._complete()

    def add(self, entry: Entry, record: Record, baseline: Record | None) -> bool:
        """Writes a cell's run, in place of one of an earlier attempt; False when it is there already."""
        if self.has(record):
            return False
        start, known = _start(record), self._runs.get(entry.uid)
        if known:
            self._client.delete_run(known.run_id)
        tags = self._tags(record)
        tags |= {"baseline_uid": entry.baseline_uid, "is_baseline": str(entry.is_baseline)}
        run = self._client.create_run(self._experiment, start, tags, _title(entry, record))
        metrics = _metrics(record, baseline, start)
        params = _params(entry, record)
        for some in _chunks(params, _PARAMS):
            room = _BATCH - len(some)
            self._client.log_batch(run.info.run_id, metrics=metrics[:room], params=some)
            metrics = metrics[room:]
        for rest in _chunks(metrics, _BATCH):
            self._client.log_batch(run.info.run_id, metrics=rest)
        self._keep_pictures(run.info.run_id, record)
        self._keep_log(run.info.run_id, record)
        status = "FAILED" if record.status == FAILED else "FINISHED"
        self._client.set_terminated(run.info.run_id, status, start + round(record.seconds * 1000))
        self._runs[entry.uid] = run.info
        return True

    def has(self, record: Record) -> bool:
        """Whether there is a run of this attempt already."""
        known = self._runs.get(record.uid)
        return known is not None and known.start_time == _start(record)

    def _keep_pictures(self, run_id: str, record: Record) -> None:
        """What the model made, as the artifact PICTURES."""
        made = pictures(record)
        if made:
            with TemporaryDirectory() as folder:
                path = Path(folder) / PICTURES
                path.write_bytes(made.strip(scale=_ENLARGED))
                self._client.log_artifact(run_id, str(path))

    def _keep_log(self, run_id: str, record: Record) -> None:
        """What its worker printed while its pack ran, and its error, as the artifact LOG; none without either."""
        lines = self._logs.of(record) + ([record.error] if record.error else [])
        if lines:
            self._client.log_text(run_id, "".join(f"{line}\n" for line in lines), LOG)

    def close(self) -> None:
        """Lets go of the database file; MLflow keeps connections for as long as the process lives."""
        with suppress(AttributeError):
            self._client._tracking_client.store.engine.dispose()

    def _open(self, artifacts: Path) -> str:
        found = self._client.get_experiment_by_name(self._name)
        if found is None:
            return str(self._client.create_experiment(self._name, artifacts.as_uri(), tags=_EXPERIMENT))
        for name, text in _EXPERIMENT.items():
            if found.tags.get(name) != text:
                self._client.set_experiment_tag(found.experiment_id, name, text)
        if found.lifecycle_stage == "deleted":  # by somebody in the dashboard
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _complete(self) -> dict[str, RunInfo]:
        """uid -> its whole run; runs that were never ended are deleted."""
        runs, token = dict[str, "RunInfo"](), None
        while True:
            page = self._client.search_runs([self._experiment], max_results=_BATCH, page_token=token)
            for run in page:
                if run.info.status == "RUNNING":
                    self._client.delete_run(run.info.run_id)
                else:
                    runs[run.data.tags.get("uid", "")] = run.info
            token = page.token
            if not token:
                return runs

    def _tags(self, record: Record) -> dict[str, str]:
        tags = {name: str(getattr(record, name)) for name in _TAGS}
        tags |= {"mlflow.source.name": self._name, "mlflow.source.type": "LOCAL"}
        if commit := record.pack.get("commit"):
            tags["mlflow.source.git.commit"] = commit
        if facts := record.pack.get("processor"):
            tags["processor"] = described(facts)[:_TEXT]
        if record.diverged_where:
            tags["diverged"] = f"step {record.diverged_at}: {record.diverged_where}"[:_TEXT]
        if found := alarms(record.gemm_checks):
            tags["alarms"] = "; ".join(alarm.line() for alarm in found)[:_TEXT]
        if record.error:
            tags["mlflow.note.content"] = f"```\n{record.error[-_TEXT:]}\n```"
        return tags


def _hurry(client: MlflowClient) -> None:
    """Commits do not wait for the disk, which takes a third of the time: a killed process loses nothing by that, and
    what a machine that goes down damages can be rebuilt.
    """
    from sqlalchemy import event

    def connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    with suppress(AttributeError):  # MLflow's own rooms
        engine = client._tracking_client.store.engine
        engine.dispose()
        event.listen(engine, "connect", connected)


def _probe(database: Path) -> None:
    """Raises sqlite3.Error at once for a file that cannot be written: MLflow would try for two minutes."""
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("PRAGMA schema_version")
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _start(record: Record) -> int:
    """Milliseconds since 1970."""
    return round(datetime.fromisoformat(record.started).timestamp() * 1000) if record.started else 0


def _title(entry: Entry, record: Record) -> str:
    """At most about 250 characters, which is what MLflow's own databases hold."""
    return f"{shorten(str(entry.labels.get('task', record.task)))} {shorten(entry.config, 140)} seed {record.seed}"


def _params(entry: Entry, record: Record) -> list[Param]:
    from mlflow.entities import Param

    values: dict[str, Any] = {"config": entry.config, **entry.labels}
    values |= recipe_params(record.trial.get("recipe", {}))
    values |= {f"training.{key}": value for key, value in _training(record).items()}
    return [Param(_key(name), str(value)[:_TEXT]) for name, value in values.items() if value is not None]


def _training(record: Record) -> Mapping[str, Any]:
    """Every training setting: the spec leaves out those at their default."""
    from dse.tasks.base import Training

    defaults = {f.name: f.default for f in fields(Training) if f.default is not MISSING}
    return defaults | dict(record.trial.get("training", {}))


def _metrics(record: Record, baseline: Record | None, time: int) -> list[Metric]:
    from mlflow.entities import Metric

    difference = gap(record, baseline)
    final: dict[str, float | None] = {
        **record.metrics,
        **{f"bf16/{name}": value for name, value in record.metrics_bf16.items()},
    }
    final |= {"metric": record.metric, "metric_initial": record.metric_initial}
    final |= {"seconds": record.seconds, "diverged_at": record.diverged_at}
    final |= {"sample_distance": distance(record, baseline)}
    if difference:
        final |= {"gap": difference.absolute, "gap_percent": difference.percent, "gap_lost": difference.lost}
        final |= {"improvement lost": None if difference.lost is None else 100 * difference.lost}
    final |= {name: record.pack.get(name) for name in ("cpu_seconds", "memory_mib", "gpu_memory_mib")}
    final |= recipe_costs(record.trial.get("recipe", {}), record.trial.get("training", {}).get("steps", 0))
    points = [(name, value, 0) for name, value in final.items()]
    points += [("train_loss", loss, int(step or 0)) for step, loss in record.curve]
    points += [("eval_metric", value, int(step or 0)) for step, value in record.evals]
    points += series(record.probes)
    return [Metric(_key(n), float(v), time, step) for n, v, step in points if v is not None and math.isfinite(v)]


def _key(name: str) -> str:
    """A name MLflow accepts: '*.block' becomes 'all.block'."""
    return re.sub(r"[^\w\-. /:]", "_", name.replace("*", "all"))


def _chunks(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
