"""The command `status`: how far a sweep is, which drivers run, what is best, and what failed; once or repeatedly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dse.commands.messages import say
from dse.plan.timing import newest_device
from dse.results.by_device import TrialRecords, kept
from dse.results.claims import running_drivers
from dse.results.lookup import printed_name
from dse.results.outcome import OUTCOMES, outcome, reason
from dse.results.record import OK, STOPPED, Record
from dse.results.store import Store
from dse.results.watch import ResultWatcher
from dse.run.queue.final_results import final_results
from dse.run.search import all_asked, search_progress, with_asked_cells
from dse.run.tally import Tally
from dse.shell import command, first_run
from dse.sweep.language.labels import shorten
from dse.text import duration, plural

if TYPE_CHECKING:
    from dse.sweep import Sweep

_SHOWN = 20
"""Trials without a final metric that get a line of their own; all of them with one `dse why` each."""


def status(file: Path | None, results: Path, watch: bool = False, every: float = 2.0) -> None:
    """Prints the status; with ``watch`` every so many seconds, until every trial has a result."""
    from dse.sweep import load_sweep

    store = Store(results)
    sweep = load_sweep(file, say) if file else None
    if not watch:
        sweep = with_asked_cells(sweep, results) if sweep else None
        history = store.on_each_device(brief=True)
        records = TrialRecords.of(_of(sweep, history)).counting
        print(*_lines(store, sweep, list(records.values()), history), sep="\n")
        return
    _watch(store, sweep, every)


def _watch(store: Store, sweep: Sweep | None, every: float) -> None:
    """Reads only what is new each time. A terminal is drawn anew; elsewhere a block is printed when it has changed."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    watcher = ResultWatcher(store.shards, store.parquet)
    uids = None if sweep and sweep.search.needs_results else _uids(sweep)  # of a search all: nobody knows which come
    history = store.on_each_device(brief=True)
    known = [record for record in history if uids is None or record.uid in uids]
    console = Console()
    shown = ""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            now = with_asked_cells(sweep, store.folder) if sweep else None
            records = TrialRecords.of(known).counting
            text = "\n".join(_lines(store, now, list(records.values()), history))
            if console.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != shown:
                print(text, flush=True)
            shown = text
            if now and all_asked(now, store.folder):
                done = {record.uid for record in final_results(now, now.cells, records.values())}
                if all(cell.uid in done for cell in now.cells):
                    return
            time.sleep(every)
            known = kept([*known, *watcher.read_new(uids)])


def _uids(sweep: Sweep | None) -> set[str] | None:
    return {cell.uid for cell in sweep.cells} if sweep else None


def _of(sweep: Sweep | None, records: Sequence[Record]) -> Sequence[Record]:
    uids = _uids(sweep)
    return records if uids is None else [record for record in records if record.uid in uids]


def _lines(
    store: Store, sweep: Sweep | None, records: Sequence[Record], history: Sequence[Record] = ()
) -> Iterator[str]:
    """``history``: everything in the folder, whose times tell how long what is left takes."""
    records = final_results(sweep, sweep.cells, records) if sweep else records
    yield from _everything(store, records) if sweep is None else _one(store, sweep, records, history)
    if said := str(store.damage):
        yield f"  {said}"
    for who, uids in running_drivers(store.folder):
        left = len(uids - {record.uid for record in records})
        yield f"  at work: {who}, {left} trials in its hands"


def _one(store: Store, sweep: Sweep, found: Sequence[Record], history: Sequence[Record]) -> Iterator[str]:
    uids = {cell.uid: cell for cell in sweep.cells}
    records = {record.uid: record for record in found if record.uid in uids}
    yield f"{sweep.name}: {len(records)} of {len(sweep.cells)} trials done" + _counts(list(records.values()))
    if asked := search_progress(sweep, store.folder):
        yield f"  search: {asked}"
    tally = Tally(sweep.cells, records.values(), 1, newest_device(records.values()))
    for task, best in tally.best().items():
        seeds = plural(best.lost.n, "seed")
        without = f"; left out: {best.left_out} of {best.configs} without a number" if best.left_out else ""
        name, lost = shorten(best.config), f"{best.text} of the improvement"
        yield f"  best on {task}, of all operand widths: {name} loses {lost} ({seeds}{without})"
    tally.learn(history if tally.untimed else ())
    left = tally.seconds_left()
    if tally.total and left is not None:
        yield f"  left: {tally.total} trials, {duration(left)} on one worker, {tally.basis}"
    unusual = [
        record for cell in sweep.cells if (record := records.get(cell.uid)) and record.status not in (OK, STOPPED)
    ]
    for record in unusual[:_SHOWN]:
        name = printed_name(uids[record.uid].config, record.seed)
        yield f"  {outcome(record)}: {record.uid} {record.task}, {name}: {reason(record)}"
    if len(unusual) > _SHOWN:
        yield f"  and {len(unusual) - _SHOWN} more without a final metric"
    if unusual:
        yield f"  everything about one of them: {command('why', unusual[0].uid, results=store.folder)}"


def _everything(store: Store, records: Sequence[Record]) -> Iterator[str]:
    """Counts of a whole results folder by task and outcome."""
    if not records:
        yield f"{store.folder} holds no results yet; start with: {first_run(store.folder)}"
        return
    yield f"{store.folder}: {len(records)} trials"
    tasks = sorted({record.task for record in records})
    wide = max(map(len, tasks))
    for task in tasks:
        yield f"  {task:{wide}}  {_counts([record for record in records if record.task == task])[2:]}"


def _counts(records: Sequence[Record]) -> str:
    counts = Counter(outcome(record) for record in records)
    return "".join(f", {counts[name]} {name}" for name in OUTCOMES if counts[name])
