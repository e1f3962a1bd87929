"""Trials that ran on several kinds of device: the record of each is kept, and gaps are of one kind where possible."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dse.commands.status import status
from dse.commands.why import why
from dse.report.analysis.tidy import TidyTable, tabulate
from dse.report.frame import Results
from dse.report.sections.provenance import provenance
from dse.report.task_table import group_records
from dse.results.by_device import TrialRecords, kept
from dse.results.manifest import Entry, Manifest
from dse.results.record import DIVERGED, FAILED, STOPPED, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.queue.other_drivers import stamp, stamps
from dse.run.tracking import mlflow_runs, projection
from dse.sweep import Cell, Sweep
from dse.train.options import RunOptions
from tests.report.studies import record, sweep_of

GPU, CPU = "NVIDIA H200", "cpu (x86_64)"
LATER = "2026-01-03T00:00:00+00:00"
TEXT = """
name: devices
tasks: [{regression: {steps: 3, batch: 4}}]
recipes: [mxfp4, nvfp4]
seeds: 2
"""
METRICS = {(GPU, "bf16"): 0.50, (GPU, "mxfp4"): 0.80, (GPU, "nvfp4"): 0.60}
METRICS |= {(CPU, "bf16"): 0.51, (CPU, "mxfp4"): 0.91, (CPU, "nvfp4"): 0.71}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep_of(tmp_path_factory.mktemp("sweep"), TEXT)


def on(kind: str, cell: Cell) -> Record:
    made = record(cell, METRICS[kind, str(cell.labels["recipe"])] + 0.001 * cell.trial.seed)
    return replace(made, device=kind, **({"started": LATER} if kind == CPU else {}))


def all_on(kind: str, sweep: Sweep, *recipes: str) -> list[Record]:
    return [on(kind, cell) for cell in sweep.cells if not recipes or cell.labels["recipe"] in recipes]


def stored(folder: Path, *shards: Iterable[Record]) -> Iterator[Store]:
    """The store after each shard, before and after it was compacted."""
    store = Store(folder)
    for shard in shards:
        store.append(*shard)
        store.close()
        yield store
        store.compact()
        yield store


def gaps(table: TidyTable) -> dict[tuple[str, int], float]:
    return {(row["recipe"], int(row["seed"])): round(row["gap"], 9) for row in table.rows}


def read(store: Store, sweep: Sweep) -> TidyTable:
    return tabulate(sweep, store.on_each_device({cell.uid for cell in sweep.cells}))


def test_later_results_of_another_kind_change_no_gap(sweep: Sweep, tmp_path: Path) -> None:
    gpu, cpu = all_on(GPU, sweep), all_on(CPU, sweep, "bf16")
    one, compacted, both, both_compacted = (read(store, sweep) for store in stored(tmp_path, gpu, cpu))
    expected = {("bf16", 0): 0, ("bf16", 1): 0, ("mxfp4", 0): 0.3, ("mxfp4", 1): 0.3, ("nvfp4", 0): 0.1}
    assert gaps(one) == gaps(compacted) == {**expected, ("nvfp4", 1): 0.1}
    assert one.frame.equals(compacted.frame)
    assert one.frame.equals(both.frame)
    assert one.frame.equals(both_compacted.frame)
    assert not provenance(one).warnings
    (said,) = provenance(both_compacted).warnings
    assert "2 trials ran on several kinds of device" in said
    assert f"those of {GPU} (2) count" in said
    store = Store(tmp_path)
    assert store.records() == sorted(gpu, key=lambda r: (r.task, r.config, r.seed, r.uid))
    assert sorted(map(repr, store.on_each_device())) == sorted(map(repr, [*gpu, *cpu]))
    assert store.done() == dict.fromkeys((cell.uid for cell in sweep.cells), "ok")
    assert Results(tmp_path).pandas(sweep)["gap"].tolist() == one.frame["gap"].tolist()


def test_a_gap_is_of_the_kind_that_both_sides_ran_on(sweep: Sweep) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    parts = all_on(GPU, sweep, "bf16", "mxfp4") + all_on(CPU, sweep, "bf16", "nvfp4")
    random.Random(seed).shuffle(parts)
    table = tabulate(sweep, parts)
    assert gaps(table)["mxfp4", 1] == 0.3
    assert gaps(table)["nvfp4", 1] == 0.2
    assert not table.frame["mixed"].any()
    nvfp4 = next(cell for cell in sweep.cells if cell.labels["recipe"] == "nvfp4")
    assert table.records[nvfp4.baseline_uid].device == GPU  # as many on both
    base = table.paired_baseline(nvfp4.uid)
    assert base is not None
    assert base.device == CPU
    # without the CPU's baseline there is no pair of one kind
    alone = tabulate(sweep, [r for r in parts if (r.device, r.recipe) != (CPU, "bf16")])
    assert gaps(alone)["nvfp4", 0] == pytest.approx(0.21)
    assert alone.frame["mixed"].sum() == 2
    assert "2 gaps compare trials of different devices" in provenance(alone).warnings[0]


def test_which_kind_counts(sweep: Sweep) -> None:
    base, one, two = (next(c for c in sweep.cells if c.labels["recipe"] == name) for name in ("bf16", "mxfp4", "nvfp4"))
    both = [on(GPU, one), on(CPU, one)]
    # the kind that the baseline has, though most ran on the other
    assert TrialRecords.of([*both, on(CPU, base), on(GPU, two)]).counting[one.uid].device == CPU
    # most of the task, where the baseline has both or none
    assert TrialRecords.of([*both, on(CPU, two)]).counting[one.uid].device == CPU
    assert TrialRecords.of([*both, on(GPU, two)]).counting[one.uid].device == GPU
    # as many: the GPU; of two GPUs the one with the newest result
    assert TrialRecords.of(both).counting[one.uid].device == GPU
    other = replace(on(GPU, one), device="NVIDIA B200", started=LATER)
    assert TrialRecords.of([other, on(GPU, one)]).counting[one.uid] == other
    # another task is counted by itself
    elsewhere = [replace(on(CPU, two), uid=f"x{i}", trial={"options": {"size": "small"}}) for i in range(5)]
    assert TrialRecords.of([*both, *elsewhere]).counting[one.uid].device == GPU


def test_what_is_kept_and_what_a_failure_hides(sweep: Sweep) -> None:
    cell = sweep.cells[0]
    gpu, cpu = on(GPU, cell), on(CPU, cell)
    again = replace(gpu, attempt=1, metric=0.4)
    assert kept([gpu, cpu, again]) == [again, cpu]
    failed = replace(cpu, status=FAILED, metric=None, attempt=2, device="cpu")
    assert kept([gpu, cpu, failed]) == [gpu, cpu]
    assert kept([failed, replace(failed, device="cuda", attempt=3)]) == [replace(failed, device="cuda", attempt=3)]
    diverged = replace(gpu, status=DIVERGED, metric=None)
    assert kept([diverged, cpu]) == [diverged, cpu]
    assert TrialRecords.of([diverged, cpu]).counting == {cell.uid: cpu}
    near, far = (replace(gpu, status=STOPPED, device=kind, stopped={"step": i}) for i, kind in enumerate((GPU, CPU)))
    assert kept([far, near]) == [far]  # whoever got further, so that nothing is trained twice


def test_training_again_elsewhere_deletes_nothing(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, options = Store(tmp_path), RunOptions("local", device="cpu", track=False, progress=False)
    gpu = [replace(one, attempt=4 * (one.recipe == "mxfp4")) for one in all_on(GPU, sweep)]
    store.append(*gpu)
    assert run_sweep(sweep, store, options).ran == 0
    cell = next(cell for cell in sweep.cells if cell.labels["recipe"] == "mxfp4")
    assert run_sweep(sweep, store, replace(options, retry="all", only=(cell.uid,))).ran == 1
    assert {record.uid: record for record in store.records()} == {record.uid: record for record in gpu}
    mine, own = store.on_each_device([cell.uid])
    assert (mine.device, own.attempt) == (GPU, 5)
    assert own.device.startswith("cpu")
    assert stamps([mine, own]) == {cell.uid: {stamp(mine), stamp(own)}}
    # the command names both, and counts the one
    why(cell.uid, tmp_path)
    out = capsys.readouterr().out
    assert "status    ok: 0.8 at the end, +20 % of the improvement lost" in out
    assert f"devices   this is from {GPU}; on {own.device} ok: {own.metric:.6g}" in out
    status(sweep.path, tmp_path)
    assert "devices: 6 of 6 trials done, 6 ok" in capsys.readouterr().out
    (group,) = group_records(store.on_each_device())
    assert set(group.gaps) == {(GPU, "mxfp4"), (GPU, "nvfp4")}


def test_mlflow_gets_the_run_that_counts_with_a_baseline_of_its_kind(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, tuple[Record, Record | None]] = {}

    class Written:
        def __init__(self, database: Path, name: str) -> None: ...
        def has(self, record: Record) -> bool:
            return record.uid in written

        def add(self, entry: Entry, record: Record, baseline: Record | None) -> bool:
            assert entry.uid not in written
            written[entry.uid] = record, baseline
            return True

        def close(self) -> None: ...

    monkeypatch.setattr(projection, "Projection", Written)
    monkeypatch.setattr(mlflow_runs, "_AT_ONCE", 1)  # a trial alone would be chosen by another majority
    store = Store(tmp_path)
    store.append(*all_on(GPU, sweep, "bf16", "mxfp4"), *all_on(CPU, sweep))
    Manifest.of(sweep, tmp_path).write(tmp_path)
    assert mlflow_runs.project(store) == len(sweep.cells)
    assert {(own.device, base and base.device) for own, base in written.values()} == {(CPU, CPU)}
