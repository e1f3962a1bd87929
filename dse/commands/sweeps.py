"""The commands about a sweep: `plan`, `run`, `report` and `dashboard`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

from dse.commands.follow_up import same_command, say_changed_code, say_damage, say_manifests
from dse.commands.messages import say
from dse.errors import CommandFailed, UserError, nearest
from dse.shell import DEFAULTS, STAYING, command
from dse.text import duration, plural

if TYPE_CHECKING:
    from dse.results.store import Store
    from dse.run.summary import Summary
    from dse.sweep import Cell, Sweep
    from dse.train.options import RunOptions


def plan(file: Path, results: Path, data_dir: Path | None, workers: int | None, yes: bool = False) -> None:
    from dse.plan import check_rules, estimate, make_plan, plan_text, probe_missing
    from dse.results.store import Store
    from dse.run.queue.final_results import final_statuses
    from dse.run.search import search_progress, with_next_cells
    from dse.sweep import MANY_CELLS, load_sweep
    from dse.train.weights import missing

    store = Store(results)
    sweep = with_next_cells(load_sweep(file, say, None if yes else MANY_CELLS), store)
    done = final_statuses(sweep, sweep.cells, store)
    say_damage(store)
    todo = [cell for cell in sweep.cells if cell.uid not in done]
    notes = check_rules(todo, file, data_dir)
    records = store.on_each_device(brief=True)
    say_changed_code(sweep.cells, records)
    timings = estimate(todo, records) if todo else {}
    failed: dict[str, Cell] = {}

    def on_failure(cell: Cell, error: Exception) -> None:
        failed.setdefault(_short(cell, error), cell)

    timings |= probe_missing(todo, timings, data_dir, on_failure=on_failure)
    first = missing((cell.trial for cell in todo), results)
    print(plan_text(make_plan(sweep, done, timings, first), workers or os.cpu_count() or 1))
    if asked := search_progress(sweep, results):
        print(f"\n  {asked}; the trials above are theirs, and those of the next batch")
    for note in notes[:_NOTES]:
        print(f"\n  {note}")
    if len(notes) > _NOTES:
        print(f"\n  ... and {len(notes) - _NOTES} more such configurations")
    for why, cell in list(failed.items())[:_FAILED]:
        print(f"\n  a trial of {cell.labels['task']}, {cell.config}, would fail: {why}")


_NOTES = 5
"""Notes about configurations that a plan shows."""

_FAILED = 5
"""Ways to fail that a plan names."""


def _short(cell: Cell, error: Exception) -> str:
    """One line about a trial's failure, with the last line of the task's own file where that is a user's."""
    import inspect
    from traceback import extract_tb

    frames, own = extract_tb(error.__traceback__), inspect.getfile(type(cell.trial.task))
    place = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}, line {place.lineno})"


def run(file: Path, results: Path, options: RunOptions, then: str | None = None, yes: bool = False) -> int:
    """Runs a sweep and says what came of it; the exit code, ``Summary.exit_code``. ``then``: a shell command to run
    once every trial has a result."""
    from dse.results.store import Store
    from dse.run.engine import run_sweep
    from dse.run.search import with_asked_cells
    from dse.sweep import MANY_CELLS, load_sweep

    given: dict[str, Any] = {
        "results": results,
        "data_dir": options.data_dir,
        "workers": options.workers,
        "executor": options.executor,
        "device": options.device,
    }
    given |= {"gpus_per_worker": options.gpus, "timeout": options.timeout, "no_track": not options.track, "yes": yes}
    staying = {name: str(given[name]) for name in STAYING if str(given[name]) not in (DEFAULTS.get(name), "None")}
    if options.data_dir:
        staying["data_dir"] = str(options.data_dir.resolve())
    sweep = load_sweep(file, say, None if yes else MANY_CELLS)
    options = replace(options, device=_device(options.device, options.executor))
    store, known = Store(results), with_asked_cells(sweep, results).cells
    if options.retry != "all":
        say_changed_code(known, store.records({cell.uid for cell in known}, brief=True))
    _say_unsaved(sweep, known, store)
    summary = run_sweep(sweep, store, options, staying)
    again = command("run", file, **given, retry="failed")
    print(*_lines(summary, sweep.name), sep="\n")
    if summary.failed:
        print(f"failed:    {command('status', file, results=results)}\nagain:     {again}")
    print(f"report:    {command('report', file, results=results)}")
    print(f"dashboard: {command('dashboard', results=results)}", flush=True)
    if then and not summary.stopped and not summary.left:
        _then(then, summary, file, results)
    return summary.exit_code


def _say_unsaved(sweep: Sweep, cells: Sequence[Cell], store: Store) -> None:
    """Says how many results have no saved weights, though the sweep now asks for them."""
    if "weights" not in sweep.save:
        return
    from dse.train.saved_weights import without_saved

    if count := without_saved(store.records({cell.uid for cell in cells}, brief=True), store.folder):
        say(f"{plural(count, 'result')} here have no saved weights; --retry all trains them again")


def _lines(summary: Summary, name: str) -> Iterator[str]:
    """The notes of a run of the sweep ``name``, and what it has done."""
    yield from (f"note: {note}" for note in summary.notes)
    counts = f"{summary.ok} ok, {summary.diverged} diverged, {summary.failed} failed"
    counts += f", {summary.halved} stopped at a rung" if summary.halved else ""
    resume, left = same_command(), summary.left
    if summary.stopped:
        by = Signals(summary.signal).name
        yield f"{name}: stopped by {by} after {summary.ran} trials, {left} left; go on with: {resume}"
        return
    if not summary.ran + summary.elsewhere:
        yield f"{name}: nothing to do, all {summary.total} trials are done ({counts})"
    else:
        others = f" and {summary.elsewhere} by other drivers" if summary.elsewhere else ""
        ran = f"{summary.ran} trials run in {duration(summary.seconds)}{others}"
        yield f"{name}: {ran}; all {summary.total}: {counts}" + (f", {left} without a result" if left else "")
    if left:
        yield f"missing:   {left} trials have no result, though the sweep has ended; go on with: {resume}"


def _then(line: str, summary: Summary, file: Path, results: Path) -> None:
    """Runs the user's command, which finds what happened in its environment. Raises CommandFailed when it fails."""
    facts = {"sweep": file, "results": results, "exit_code": summary.exit_code, "total": summary.total}
    facts |= {"ran": summary.ran, "ok": summary.ok, "diverged": summary.diverged, "failed": summary.failed}
    facts |= {"halved": summary.halved}
    environment = os.environ | {f"DSE_{name.upper()}": str(value) for name, value in facts.items()}
    code = subprocess.run(line, shell=True, check=False, env=environment).returncode  # their own shell command
    if code:
        raise CommandFailed(f"--then {line!r} ended with exit code {code}; the sweep itself is complete")


def report(
    files: Sequence[Path], results: Path, out: Path, places: Sequence[str] = (), standalone: bool = False
) -> None:
    """``places``: as --place, in the place of the sweeps'; ``standalone``: as --standalone."""
    from dse.cost.cost_places import cost_place
    from dse.report import write_report
    from dse.report.joined_sweeps import join_sweeps
    from dse.results.store import Store
    from dse.run.search import with_asked_cells
    from dse.sweep import load_sweep

    chosen = tuple(dict.fromkeys(map(cost_place, places)))
    sweeps = [with_asked_cells(load_sweep(file, say), results) for file in files]
    for file, one in zip(files, sweeps, strict=True):
        if not one.cells:
            raise UserError(
                f"the search of {one.name} has asked for nothing yet; run: {command('run', file, results=results)}"
            )
    sweep = join_sweeps(sweeps)
    store = Store(results)
    records = store.on_each_device({cell.uid for cell in sweep.cells}, without=("probes",))
    say_damage(store)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder; reports are written into one")
    if not records:
        runs = " && ".join(command("run", file, results=results) for file in files)
        raise CommandFailed(f"{sweep.name} has no results in {results} yet; run it first: {runs}")
    path = write_report(sweep, records, out, results, chosen, standalone)
    done = len({record.uid for record in records})
    print(f"{done} of {len(sweep.cells)} trials in {path}")


_LINKS = 10
"""Sweeps whose pages are printed."""


def dashboard(results: Path, port: int, rebuild: bool, optuna: Path | None = None, browser: bool = True) -> None:
    if optuna:
        _optuna(optuna, results, port, browser)
        return
    from dse.results.store import Store
    from dse.run.tracking import mlflow_runs
    from dse.run.tracking.server import in_use, serve

    store = Store(results)
    say_manifests(results)
    if damaged := mlflow_runs.is_damaged(results):
        print(f"note: {results / mlflow_runs.DATABASE} is damaged; it is built anew from the results")
    if rebuild or damaged or (store.done() and not (results / mlflow_runs.DATABASE).exists()):
        print(f"{mlflow_runs.rebuild(store)} runs written to {results / mlflow_runs.DATABASE}")
    elif mlflow_runs.is_behind(results):
        print(f"{mlflow_runs.project(store)} runs added to {results / mlflow_runs.DATABASE}")
    served = mlflow_runs.dashboard_command(results, port)
    links = mlflow_runs.links(results, port)
    if in_use(port):
        other = command("dashboard", results=results, port=port + 1)
        raise CommandFailed(f"port {port} of this machine is in use, by another dashboard perhaps; try: {other}")
    print("MLflow starts, which takes some seconds (Ctrl-C stops it)", flush=True)

    def ready() -> None:
        print(f"MLflow: {links[0].runs if links else f'http://127.0.0.1:{port}'}")
        if links and links[0].charts:
            print(f"  accuracy against cost: {links[0].charts}")
        for link in links[1:_LINKS]:
            print(f"  {link.experiment}: {link.runs}")
        print(end="", flush=True)
        if links and browser:
            _browse(links[0].runs)

    code = serve(served, on_ready=ready, port=port)
    if code not in (0, 130, -2, -15):
        other = command("dashboard", results=results, port=5001 if port != 5001 else 5002)
        raise CommandFailed(f"MLflow stopped with exit code {code}; is port {port} in use? try: {other}")


def _browse(link: str) -> None:
    """Opens a page in the user's browser, where somebody sits at a screen of this machine."""
    import webbrowser

    at_a_screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and at_a_screen:
        webbrowser.open_new_tab(link)


def _optuna(file: Path, results: Path, port: int, browser: bool) -> None:
    """Writes a sweep's studies, and opens optuna-dashboard on them where it is installed."""
    import sysconfig
    from shutil import which

    from dse.results.store import Store
    from dse.run.search.export import export
    from dse.run.tracking.server import in_use, serve
    from dse.sweep import load_sweep

    path, count = export(load_sweep(file), Store(results))
    print(f"{count} configurations in {path}")
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])  # this environment's first
    program = which("optuna-dashboard", path=places)
    if program is None:
        again = command("dashboard", results=results, optuna=file)
        print(f"to open it: pip install 'fp4-dse[optuna-dashboard]', then: {again}")
        return
    page = f"http://127.0.0.1:{port}/dashboard"
    if in_use(port):
        other = command("dashboard", results=results, port=port + 1, optuna=file)
        raise CommandFailed(f"port {port} of this machine is in use, by another dashboard perhaps; try: {other}")
    served = [program, str(path), "--host", "127.0.0.1", "--port", str(port)]

    def ready() -> None:
        print(f"Optuna: {page} (Ctrl-C stops it)", flush=True)
        if browser:
            _browse(page)

    code = serve(served, on_ready=ready, port=port)
    if code not in (0, 130, -2, -15):
        other = command("dashboard", results=results, port=5001 if port != 5001 else 5002, optuna=file)
        raise CommandFailed(f"optuna-dashboard stopped with exit code {code}; is port {port} in use? try: {other}")


def _device(name: str, executor: str) -> str:
    """'auto' becomes cuda where there is one. Raises UserError for a device that is not there; what a cluster has, Ray
    will say."""
    import torch

    elsewhere = executor != "local" and os.environ.get("RAY_ADDRESS", "local") != "local"

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = name.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UserError(f"--device {name!r} is unknown{nearest(name, ('auto', 'cpu', 'cuda'))}")
    if kind == "cuda" and not elsewhere and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine, or this build of torch, has no CUDA device; see: dse doctor")
    return name
