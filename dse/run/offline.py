"""Offline runs: sweeps are planned here and trained on a machine with torch and little else.

    python -m dse.run.offline plan sweeps/a.yaml sweeps/b.yaml --out trials.json       here
    python -m dse.run.offline run trials.json --out away --device cuda --seconds 300   there: needs torch and numpy
    cp away/shards/* results/shards/ && dse report sweeps/a.yaml                       here: the results, copied back

Jobs (the tasks of the sweeps) run in the order given, in packs, until the time is up. Every finished pack is stored at
once. One that would take much longer leaves a checkpoint, and its trials' metrics so far in `left.jsonl`; the same
command goes on from there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dse.errors import UserError
from dse.results.record import Record
from dse.results.store import Store
from dse.run.bundle import BundledCell, BundleJob, jobs_of, read_bundle, write_bundle
from dse.run.executors.devices import default_max_width
from dse.run.executors.local import LocalExecutor
from dse.run.interrupt import Interrupt, Stopped, graceful
from dse.run.log_lines import job_line, pack_line, unfinished_trials
from dse.run.queue.pack_queue import PackQueue, pack_order
from dse.terminal import PrintLine, go_on_unheard, prepare
from dse.text import duration, plural
from dse.train.checkpoint import clean
from dse.train.options import RunOptions
from dse.train.warmup import warm
from dse.train.weights import missing
from dse.trial import Trial

if TYPE_CHECKING:
    from dse.sweep import Cell

LEFT = "left.jsonl"
_INTERVAL = 15.0
"""Seconds between lines about a pack that runs."""


@dataclass(frozen=True)
class Deadline:
    """A ``Stop`` for executors: set at the time ``end`` (``time.monotonic``), or by a signal before it."""

    end: float
    signal: Interrupt = field(default_factory=Interrupt)

    def is_set(self) -> bool:
        return self.signal.is_set() or time.monotonic() >= self.end

    @property
    def grace(self) -> float | None:
        """Seconds that a running pack may take yet; None: as the options say."""
        return self.signal.grace


@dataclass(frozen=True)
class Limits:
    """``seconds``: for everything; ``each``: for a job; ``grace``: that a running pack may go on after its time.

    ``widths``: (pattern of jobs' names, widest pack), the last that fits counts; without one, widths are measured.
    """

    seconds: float = inf
    each: float = inf
    grace: float = 20.0
    widths: tuple[tuple[str, int], ...] = ()

    def width(self, name: str) -> int | None:
        fits = [width for pattern, width in self.widths if fnmatchcase(name, pattern)]
        return fits[-1] if fits else None


def plan(
    files: Sequence[Path], out: Path, results: Path, tasks: Sequence[str] = (), say: PrintLine = print
) -> list[BundleJob]:
    """Writes the trials of the sweeps that have no result in ``results``; ``tasks``: patterns of the jobs to take.

    Halving, probes and saved weights are left out. Raises UserError for a broken sweep, for one that chooses trials by
    results, or when nothing is left.
    """
    from dse.sweep import load_sweep

    done = Store(results).done()
    sweeps = [load_sweep(file) for file in files]
    for sweep in sweeps:
        if sweep.search.needs_results:
            method = sweep.search.method
            raise UserError(f"{sweep.name}: {method} chooses its next trials by results, which are not here")
        own = {"halving": sweep.search.halving, "probes": sweep.probes, "saved weights": sweep.save}
        if kept := [name for name, value in own.items() if value]:
            say(f"{sweep.name}: trained without its {' and '.join(kept)}")
    jobs = [job for sweep in sweeps for job in jobs_of(sweep, done)]
    if tasks:
        jobs = [job for job in jobs if any(fnmatchcase(job.name, pattern) for pattern in tasks)]
    if not jobs:
        raise UserError(f"nothing to run: everything is done in {results}" + f", or no task fits {tasks}" * bool(tasks))
    write_bundle(jobs, out)
    return jobs


def run(
    jobs: Sequence[BundleJob],
    out: Path,
    options: RunOptions,
    limits: Limits,
    say: PrintLine = print,
    signal: Interrupt | None = None,
) -> int:
    """Trains what has no result in ``out`` yet; returns the number of trials left. ``signal``: ends it early.

    Checkpoints are kept in ``options.results``. A job that cannot run at all (missing data, say) is passed over.
    """
    store, start, left = Store(out), time.monotonic(), 0
    options, signal = replace(options, checkpoint=limits.grace), signal or Interrupt()
    for job in jobs:
        done = store.done()
        items = [item for item in job.items if item.uid not in done]
        end = min(start + limits.seconds, time.monotonic() + limits.each)
        if items and not Deadline(end, signal).is_set():
            say(f"== {duration(time.monotonic() - start)}: {job.name}, {len(items)} trials")
            try:
                deadline, width = Deadline(end, signal), limits.width(job.name)
                _train_first(items, store, options, deadline, width, say)
                _train(items, store, options, deadline, width, say)
            except UserError as error:
                say(f"   {error}")
            mine = store.records({item.uid for item in job.items}, brief=True)
            say(f"   {job_line(mine)}")
            items = [item for item in items if item.uid not in {record.uid for record in mine}]
        left += len(items)
    store.close()
    if options.results:
        clean(options.results, store.done().keys())
        (out / LEFT).write_text("".join(f"{line}\n" for line in unfinished_trials(options.results)), encoding="utf-8")
    return left


def _train_first(
    items: Sequence[BundledCell],
    store: Store,
    options: RunOptions,
    deadline: Deadline,
    width: int | None,
    say: PrintLine,
) -> None:
    """Trains what trials start from and the folder of checkpoints has no weights of; their results are stored too."""
    first = missing((item.trial for item in items), options.results) if options.results else []
    if first:
        say(f"   first {plural(len(first), 'trial')} that others start from")
        cells = [BundledCell(trial, trial.recipe.name, trial.baseline().uid) for trial in first]
        _train(cells, store, replace(options, keep_weights=True), deadline, width, say)


def _train(
    items: Sequence[BundledCell],
    store: Store,
    options: RunOptions,
    deadline: Deadline,
    width: int | None,
    say: PrintLine,
) -> None:
    began = shown = time.monotonic()

    def keep(pack: Sequence[tuple[Cell, Record]]) -> None:
        nonlocal began, shown
        records = [record for _, record in pack]
        store.append(*records)
        now = time.monotonic()
        say(f"   {pack_line(records, now - began)}")
        began = shown = now

    def on_progress(running: int, progress: float) -> None:
        nonlocal shown
        if running and time.monotonic() > shown + _INTERVAL:
            shown = time.monotonic()
            say(f"   {duration(shown - began)}: {progress / running:.0%} of {running}")

    queue = _queue(items, options.device, width)
    LocalExecutor(options).run(queue, keep, on_progress, deadline)


def _queue(items: Sequence[BundledCell], device: str, width: int | None) -> PackQueue:
    cells = cast("Sequence[Cell]", items)
    return PackQueue(cells, width or default_max_width(device), width=width, order=pack_order(device))


def _packs(items: Sequence[BundledCell], device: str, width: int | None) -> Iterator[list[Trial]]:
    """The packs that a queue makes of trials; all of them in one where their width is to be measured."""
    queue = _queue(items, device, width)
    while item := queue.take():
        yield [cell.trial for cell in item.cells]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything is done, 1 when trials are left, 2 for a mistake, 128 plus a signal that ended it before.

    At Ctrl-C, SIGTERM and SIGHUP what runs is finished, or leaves a checkpoint.
    """
    given = _parser().parse_args(arguments)
    prepare()
    go_on_unheard()
    try:
        if given.verb == "plan":
            jobs = plan(given.sweeps, given.out, given.results, given.task)
            for job in jobs:
                steps = job.items[0].trial.training.steps
                print(f"{job.name}: {len(job.items)} trials of {steps} steps")
            print(f"{sum(len(job.items) for job in jobs)} trials in {given.out}")
            return 0
        place = given.checkpoints or given.out
        place.mkdir(parents=True, exist_ok=True)
        given.out.mkdir(parents=True, exist_ok=True)
        options = RunOptions(device=given.device, data_dir=given.data_dir, results=place)
        limits = Limits(given.seconds, given.each, given.grace, tuple(given.width))
        start, jobs = time.monotonic(), read_bundle(given.bundle)
        if given.ahead:
            packs = [pack for job in jobs for pack in _packs(job.items, given.device, limits.width(job.name))]
            found = warm(packs, given.device, given.data_dir, given.ahead, lambda line: print(line, flush=True))
            took = duration(found.seconds)
            print(f"{found.kernels} kernels: {took}, of {found.packs} of {len(packs)} packs", flush=True)
            limits = replace(limits, seconds=limits.seconds - (time.monotonic() - start))
        with graceful() as signal:
            left = run(jobs, given.out, options, limits, lambda line: print(line, flush=True), signal)
        print(f"{left} trials left after {duration(time.monotonic() - start)}; results in {given.out / 'shards'}")
        return 128 + signal.number if left and signal.number else int(left > 0)
    except Stopped as stopped:
        print(f"{stopped}; run the same command again to go on", file=sys.stderr)
        return 128 + stopped.number
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    text, kind = __doc__ or "", argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m dse.run.offline", description=text, formatter_class=kind)
    verbs = parser.add_subparsers(dest="verb", required=True)
    here = verbs.add_parser("plan", help="write the trials of sweeps to a file")
    here.add_argument("sweeps", nargs="+", type=Path)
    here.add_argument("--out", type=Path, required=True, help="JSON file")
    here.add_argument("--results", type=Path, default=Path("results"), help="whose trials are done (results)")
    here.add_argument("--task", action="append", default=[], help="pattern of jobs to take, such as '*size=tiny*'")
    there = verbs.add_parser("run", help="train them")
    there.add_argument("bundle", type=Path, metavar="parcel")
    there.add_argument("--out", type=Path, required=True, help="folder of results")
    there.add_argument("--checkpoints", type=Path, help="folder for checkpoints, which are large (that of --out)")
    there.add_argument("--data-dir", type=Path)
    there.add_argument("--device", default="cpu")
    there.add_argument("--seconds", type=float, default=inf, help="for everything")
    there.add_argument("--each", type=float, default=inf, help="seconds for a job")
    there.add_argument("--grace", type=float, default=20.0, help="seconds that a running pack may go on after that")
    there.add_argument("--ahead", type=int, default=0, metavar="N", help="compile kernels first, in N processes")
    there.add_argument(
        "--width",
        type=_width,
        action="append",
        default=[],
        metavar="[PATTERN:]N",
        help="widest pack of jobs (measured)",
    )
    return parser


def _width(text: str) -> tuple[str, int]:
    pattern, _, number = text.rpartition(":")
    return pattern or "*", int(number)


__all__ = ["Deadline", "Limits", "main", "plan", "run"]

if __name__ == "__main__":
    raise SystemExit(main())
