"""MLflow: every cell becomes a run, once; what goes wrong there stays there."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.cost import overhead, relative_time
from dse.errors import UserError
from dse.numerics.recipe import override
from dse.numerics.registry import to_data
from dse.recipes import RECIPES
from dse.results.manifest import Entry, Manifest, read_manifests
from dse.results.record import DIVERGED, Record
from dse.results.store import Store
from dse.run.executors.worker_log import append_lines
from dse.run.tracking import mlflow_runs
from dse.run.tracking.live import Tracker
from dse.run.tracking.recipe_params import recipe_costs, recipe_params
from dse.tasks.pictures import Pictures

Make = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def manifest() -> Manifest:
    def entry(uid: str, recipe: str, baseline: bool = False, **labels: Any) -> Entry:
        axes = {"task": "regression", "recipe": recipe, "seed": 0, "*.block": None, "wgrad.rhs.rounding": None} | labels
        return Entry(uid, "b0", recipe, baseline, axes)

    cells = (entry("b0", "bf16", True), entry("u1", "mxfp4", **{"*.block": 16}), entry("u2", "nvfp4"))
    return Manifest("a sweep", "name: a sweep", cells, identity="a_sweep")


@pytest.fixture
def records(make_record: Make) -> list[Record]:
    training = {"task": "regression", "training": {"steps": 3, "batch": 8, "lr": 0.1}, "recipe": {}}
    return [
        make_record("b0", recipe="bf16", config="bf16", metric=0.2, trial=training),
        make_record(
            "u1",
            metric=0.25,
            metrics_bf16={"loss": 0.24, "accuracy": None},
            curve=[[i, 1.0 / (i + 1)] for i in range(1200)],
        ),
        make_record("u2", DIVERGED, metric=None, diverged_at=3, diverged_where="training loss inf"),
    ]


def runs(folder: Path, name: str = "a sweep") -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / mlflow_runs.DATABASE}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return {run.data.tags["uid"]: run for run in client.search_runs([experiment.experiment_id])}


def test_live_projection_and_rebuild(
    store: Store, manifest: Manifest, records: list[Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    manifest.write(store.folder)
    for record in records:
        store.append(record)
    tracker = Tracker(store.folder, manifest, known=[])
    for record in [records[1], records[0], records[2]]:  # a trial may end before its baseline
        tracker.put(record)
    assert mlflow_runs.is_behind(store.folder)
    assert tracker.close(120) == ""
    assert not mlflow_runs.is_behind(store.folder)
    found = runs(store.folder)
    assert set(found) == {"b0", "u1", "u2"}

    data = found["u1"].data
    wanted = {"task": "regression", "recipe": "mxfp4", "config": "mxfp4", "seed": "0", "all.block": "16"}
    wanted |= {"training.steps": "3", "training.lr": "0.1", "training.optimizer": "adamw"}
    assert wanted.items() <= data.params.items()
    assert "wgrad.rhs.rounding" not in data.params
    assert {"task": "regression", "recipe": "mxfp4", "seed": "0", "status": "ok", "device": "cpu (x)"}.items() <= (
        data.tags.items()
    )
    assert data.metrics["gap"] == 0.25 - 0.2
    assert data.metrics["gap_percent"] == pytest.approx(25)
    assert data.metrics["gap_lost"] == pytest.approx(0.05 / 0.8)
    assert data.metrics["improvement lost"] == pytest.approx(5 / 0.8)
    assert (data.tags["baseline_uid"], data.tags["is_baseline"]) == ("b0", "False")
    assert (data.metrics["metric"], data.metrics["metric_initial"], data.metrics["seconds"]) == (0.25, 1.0, 1.25)
    assert data.metrics["bf16/loss"] == 0.24
    assert not {"accuracy", "bf16/accuracy"} & data.metrics.keys()  # null
    assert not any(name.startswith("bf16/") for name in found["b0"].data.metrics)  # a record from before
    info = found["u1"].info
    assert (info.status, info.run_name, info.end_time - info.start_time) == (
        "FINISHED",
        "regression mxfp4 seed 0",
        1250,
    )
    client = MlflowClient(tracking_uri=f"sqlite:///{store.folder / mlflow_runs.DATABASE}")
    curve = client.get_metric_history(info.run_id, "train_loss")
    assert sorted((m.step, m.value) for m in curve) == [(i, 1.0 / (i + 1)) for i in range(1200)]
    assert [m.step for m in client.get_metric_history(info.run_id, "eval_metric")] == [0, 3]
    assert found["b0"].data.metrics["gap"] == 0
    assert "gap" not in found["u2"].data.metrics
    assert found["u2"].data.tags["diverged"] == "step 3: training loss inf"

    # once more: nothing is added; a run that was never ended is replaced
    assert mlflow_runs.project(store) == 0
    client.update_run(found["u2"].info.run_id, status="RUNNING")
    assert mlflow_runs.project(store) == 1
    assert len(runs(store.folder)) == 3

    # a trial that ran again replaces its earlier run
    store.append(dataclasses.replace(records[2], status="ok", metric=0.3, started="2026-01-03T00:00:00+00:00"))
    assert mlflow_runs.project(store) == 1
    found = runs(store.folder)
    assert len(found) == 3
    assert found["u2"].data.tags["status"] == "ok"

    # the whole projection can be replaced, and this process sees the new one
    client.delete_experiment(found["u1"].info.experiment_id)
    assert mlflow_runs.rebuild(store) == 3
    assert {uid: run.data.metrics for uid, run in runs(store.folder).items()} == {
        uid: run.data.metrics for uid, run in found.items()
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "mlflow.db", "shards", "sweeps"]


def test_pictures_and_probes(store: Store, manifest: Manifest, records: list[Record]) -> None:
    from matplotlib.image import imread
    from mlflow import MlflowClient

    manifest.write(store.folder)
    base, own, _ = records
    made = [Pictures(np.full((8, 8, 8), level, np.uint8), 0.01).plain() for level in (10, 60)]
    rows = [[step, layer, "wgrad", {"cosine": 0.9 - step}] for step in (0, 2) for layer in ("a", "b")]
    rows[-1][3] = {"cosine": None}
    store.append(dataclasses.replace(base, samples={"made": made[0], "real": made[0]}))
    pack = {"pid": 7, "pack_seconds": 4.0}
    store.append(dataclasses.replace(own, samples={"made": made[1]}, probes=rows, pack=pack))
    append_lines(store.folder, [f"{own.started} {own.host} 7: said", f"{own.started} {own.host} 8: by another"])
    store.append(records[2])
    for _ in range(2):
        assert mlflow_runs.rebuild(store) == 3
    found = runs(store.folder)
    assert found["u1"].data.metrics["sample_distance"] == pytest.approx(0.5)
    assert "sample_distance" not in found["u2"].data.metrics
    client = MlflowClient(tracking_uri=f"sqlite:///{store.folder / mlflow_runs.DATABASE}")
    looks = client.get_metric_history(found["u1"].info.run_id, "probe/wgrad/cosine/worst")
    assert sorted((m.step, m.value) for m in looks) == [(0, 0.9), (2, pytest.approx(-1.1))]
    assert found["u1"].data.metrics["probe/wgrad/cosine/b"] == 0.9
    assert [file.path for file in client.list_artifacts(found["u1"].info.run_id)] == ["log.txt", "samples.png"]
    (log,) = (store.folder / "mlartifacts").glob("*/artifacts/log.txt")
    assert log.read_text(encoding="utf-8") == f"{own.started} said\n"
    kept = sorted((store.folder / "mlartifacts").glob("*/artifacts/*.png"))
    assert len(kept) == 2  # nothing is left of the first database
    assert imread(kept[0]).shape == (48, 8 * 48 + 7 * 6)


def test_a_broken_database_is_one_warning(store: Store, manifest: Manifest, records: list[Record]) -> None:
    (store.folder / mlflow_runs.DATABASE).mkdir()
    tracker = Tracker(store.folder, manifest, known=records[:1])
    tracker.put(records[1])
    warning = tracker.close(120)
    assert warning.startswith("MLflow: 2 runs not yet projected (")
    assert warning.endswith(f"; `dse dashboard --results {store.folder} --rebuild` adds them")
    assert "\n" not in warning
    assert mlflow_runs.is_behind(store.folder)


def test_a_trial_waits_for_its_baseline(
    store: Store, manifest: Manifest, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_runs, "_AT_ONCE", 1)
    manifest.write(store.folder)
    store.append(records[1])
    tracker = Tracker(store.folder, manifest, known=[])
    tracker.put(records[1])
    assert tracker.close(120) == ""
    assert mlflow_runs.is_behind(store.folder)
    assert runs(store.folder) == {}
    assert mlflow_runs.project(store) == 0
    store.append(records[0])
    assert mlflow_runs.project(store) == 2
    assert mlflow_runs.project(store) == 0
    u1 = runs(store.folder)["u1"].data.metrics
    assert u1["gap"] == 0.25 - 0.2
    assert u1["train_loss"] == 1 / 1200, "the curve as well"


def test_a_tracker_without_records_costs_nothing(store: Store, manifest: Manifest) -> None:
    tracker = Tracker(store.folder, manifest, known=[])
    assert tracker.close(0) == ""
    assert not (store.folder / mlflow_runs.DATABASE).exists()


def test_dashboard_command(store: Store) -> None:
    with pytest.raises(UserError, match="run a sweep first"):
        mlflow_runs.dashboard_command(store.folder)
    (store.folder / mlflow_runs.DATABASE).touch()
    command = mlflow_runs.dashboard_command(store.folder, port=5005)
    assert command[:2] == ["env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"]
    assert command[-6:] == ["--host", "127.0.0.1", "--port", "5005", "--workers", "1"]


def test_nothing_to_project(store: Store) -> None:
    with pytest.raises(UserError, match="no sweep has been run"):
        mlflow_runs.rebuild(store)


def test_manifests_are_read_back_and_damaged_ones_are_left_out(store: Store, manifest: Manifest) -> None:
    manifest.write(store.folder)
    (store.folder / "sweeps" / "bad.json").write_text("{", encoding="utf-8")
    assert read_manifests(store.folder) == [manifest]


def test_names_of_runs_fit_into_mlflow(make_record: Callable[..., Record]) -> None:
    from dse.run.tracking.projection import _title

    entry = Entry("u0", "b0", "L" * 3000, False, {"task": "T" * 3000, "seed": 0})
    assert len(_title(entry, make_record())) <= 250


def test_every_option_of_a_recipe_and_its_cost() -> None:
    recipe = override(RECIPES["nvfp4"], "wgrad.lhs.block", 32)
    params, costs = recipe_params(to_data(recipe)), recipe_costs(to_data(recipe))
    assert params["recipe.fprop.lhs.block"] == "16"
    assert params["recipe.block"] == "16, 32"
    assert params["recipe.element"] == "e2m1"  # a default
    assert params["recipe.wgrad.rotation"].startswith("hadamard")
    assert costs == {"overhead": overhead(recipe), "time": relative_time(recipe)}
    assert not any(key.startswith("recipe.fprop") for key in recipe_params(to_data(RECIPES["bf16"])))
    unknown = {"fprop": {"lhs": {"block": {"statistic": "of_a_plugin"}}}}
    assert (recipe_params(unknown), recipe_costs(unknown)) == ({}, {})


def test_links_lead_to_runs_sorted_by_gap(store: Store, manifest: Manifest, records: list[Record]) -> None:
    older = dataclasses.replace(manifest, name="older", identity="older")
    for own, day in ((older, "01"), (manifest, "02")):
        own.write(store.folder)
        for record in records:
            started = f"2026-01-{day}T00:00:00+00:00"
            store.append(dataclasses.replace(record, started=started, attempt=int(day)))
        mlflow_runs.project(store)
    newest, other = mlflow_runs.links(store.folder, 5001)
    assert {newest.experiment, other.experiment} == {"a sweep", "older"}
    page = r"http://127.0.0.1:5001/#/experiments/\d+/runs\?"
    assert re.fullmatch(page + "viewStateShareKey=front", newest.runs)
    assert newest.charts == newest.runs + "&compareRunsMode=CHART"

    with closing(sqlite3.connect(store.folder / mlflow_runs.DATABASE)) as connection:
        key = "mlflow.sharedViewState.front"
        values = connection.execute("SELECT value FROM experiment_tags WHERE key = ?", (key,)).fetchall()
        metrics = {name for (name,) in connection.execute("SELECT DISTINCT key FROM latest_metrics")}
        connection.execute("DELETE FROM experiment_tags WHERE key = ?", (key,))
        connection.commit()
    assert len(values) == 2
    view = json.loads(values[0][0])
    state = json.loads(view["state"])
    assert (state["orderByKey"], state["orderByAsc"], view["orderByKey"]) == ("metrics.`gap`", True, "metrics.`gap`")
    sections = [section["uuid"] for section in state["compareRunSections"]]
    charts = state["compareRunCharts"]
    assert all([chart["metricSectionId"]] == sections for chart in charts)
    named = {chart[axis]["key"] for chart in charts for axis in ("xaxis", "yaxis")}
    named |= {column.partition(".")[2].strip("`") for column in state["selectedColumns"] if "metrics." in column}
    assert {"gap", "overhead"} <= named <= metrics | {"overhead", "time"}  # a cost only for recipes that are known here

    old = mlflow_runs.links(store.folder, 5001)[0]  # a database from before there were views
    assert re.fullmatch(page + "orderByKey=metrics.%60gap%60&orderByAsc=true", old.runs)
    assert old.charts == ""
