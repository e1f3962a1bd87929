"""Verbs about a sweep: plan, run, status, report, dashboard."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

from dse.errors import UserError, nearest


def plan(file: Path, results: Path, data_dir: Path | None, workers: int | None) -> None:
    from dse.run.store import Store
    from dse.sweep import estimate, load_sweep, make_plan, plan_text, probe_missing

    sweep, store = load_sweep(file), Store(results)
    done = store.done()
    todo = [cell for cell in sweep.cells if cell.uid not in done]
    timings = estimate(todo, store.records()) if todo else {}
    timings |= probe_missing(todo, timings, data_dir)
    print(plan_text(make_plan(sweep, done, timings), workers or os.cpu_count() or 1))


def run(
    file: Path,
    results: Path,
    data_dir: Path | None,
    workers: int | None,
    executor: str,
    device: str,
    retry_failed: bool,
    track: bool,
) -> None:
    from dse.run.engine import run_sweep
    from dse.run.store import Store
    from dse.sweep import load_sweep

    sweep = load_sweep(file)
    summary = run_sweep(
        sweep,
        Store(results),
        executor,
        workers,
        data_dir,
        _device(device),
        retry_failed=retry_failed,
        track=track,
    )
    for note in summary.notes:
        print(f"note: {note}")
    counts = f"{summary.ok} ok, {summary.diverged} diverged, {summary.failed} failed"
    if not summary.ran:
        print(f"{sweep.name}: nothing to do, all {summary.total} trials are done ({counts})")
    elif summary.stopped:
        print(f"{sweep.name}: stopped after {summary.ran} trials, {summary.left} left; run the same command to go on")
    else:
        print(f"{sweep.name}: {summary.ran} trials run in {summary.seconds:.0f} s; all {summary.total}: {counts}")
    print(f"report:    dse report {file}\ndashboard: dse dashboard")


def status(file: Path | None, results: Path) -> None:
    from dse.run.store import Store

    if file is None:
        _everything(Store(results))
        return
    from dse.run.standing import Standing
    from dse.sweep import load_sweep

    sweep, store = load_sweep(file), Store(results)
    records = {record.uid: record for record in store.records({cell.uid for cell in sweep.cells})}
    counts = Counter(record.status for record in records.values())
    print(f"{sweep.name}: {len(records)} of {len(sweep.cells)} trials done", end="")
    print("".join(f", {number} {name}" for name, number in sorted(counts.items())))
    for task, (config, percent) in Standing(sweep.cells, records.values(), 1).best().items():
        print(f"  best on {task}: {config}, {percent:+.2f} % from the baseline")
    for cell in sweep.cells:
        record = records.get(cell.uid)
        if record and record.status != "ok":
            why = record.diverged_where or (record.error or "").strip().rpartition("\n")[2]
            at = "" if record.diverged_at is None else f" at step {record.diverged_at}"
            print(f"  {record.status}{at}: {cell.labels['task']}, {cell.config}, seed {record.seed}: {why}")


def report(file: Path, results: Path, out: Path) -> None:
    from dse.report import write_report
    from dse.run.store import Store
    from dse.sweep import load_sweep

    sweep = load_sweep(file)
    records = Store(results).records({cell.uid for cell in sweep.cells})
    path = write_report(sweep, records, out)
    print(f"{len(records)} of {len(sweep.cells)} trials in {path}")


def dashboard(results: Path, port: int, rebuild: bool) -> None:
    from dse.run import tracking
    from dse.run.store import Store

    store = Store(results)
    if rebuild or (store.done() and not (results / tracking.DATABASE).exists()):
        print(f"{tracking.rebuild(store)} runs written to {results / tracking.DATABASE}")
    elif tracking.is_behind(results):
        print(f"{tracking.project(store)} runs added to {results / tracking.DATABASE}")
    command = tracking.dashboard_command(results, port)
    print(f"MLflow: http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code not in (0, 130, -2, -15):
        raise UserError(f"MLflow stopped with exit code {code}; is port {port} in use? try: dse dashboard --port 5001")


def _everything(store: object) -> None:
    """Counts of a whole results folder by task and status."""
    from dse.run.store import Store

    assert isinstance(store, Store)
    records = store.records()
    if not records:
        print(f"{store.folder} holds no results yet; start with: dse run sweeps/quickstart.yaml")
        return
    tasks = sorted({record.task for record in records})
    print(f"{store.folder}: {len(records)} trials")
    for task in tasks:
        counts = Counter(record.status for record in records if record.task == task)
        print(f"  {task:12}" + "  ".join(f"{name} {number}" for name, number in sorted(counts.items())))


def _device(name: str) -> str:
    """'auto' becomes cuda where there is one. Raises UserError for a device that is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = name.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UserError(f"--device {name!r} is unknown{nearest(name, ('auto', 'cpu', 'cuda'))}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine, or this build of torch, has no CUDA device; see: dse doctor")
    return name
