"""Display of a running sweep: a live progress bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from dse.alarms.verdicts import alarms
from dse.results.lookup import printed_name
from dse.results.outcome import outcome, reason
from dse.results.record import DIVERGED, FAILED, OK, STOPPED, Record
from dse.run.tally import Tally
from dse.sweep.language.labels import shorten
from dse.text import duration, plural

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dse.sweep import Cell

_INTERVAL = 10.0  # seconds between plain lines at first; later they get rarer
_SHARE = 0.05  # of the trials, after which a plain line is due as well
_DETAILS = 1.0  # seconds between reads of the whole tally, whose cost grows with the sweep
_LONGEST = 240  # characters of a reason
_SHOWN = 5  # failed and diverged trials that are shown in a line each


class Progress(Protocol):
    """A display; ``close`` leaves the terminal as it was."""

    def on_result(self, cell: Cell, record: Record) -> None: ...
    def refresh(self) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


def make_progress(tally: Tally, wanted: bool = True) -> Progress:
    """The display that suits standard output."""
    if not wanted:
        return Silent()
    return Bar(tally) if sys.stdout.isatty() else Lines(tally)


class Silent:
    """No display."""

    def on_result(self, cell: Cell, record: Record) -> None:
        """Shows nothing."""

    def refresh(self) -> None:
        """Shows nothing."""

    def say(self, line: str) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Nothing to end."""


class Lines:
    """A line every 10 s or 5 % of the trials, rarer in a long run: for logs."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._start = self._last = time.monotonic()
        self._shown, self._unusual = 0, 0

    def on_result(self, cell: Cell, record: Record) -> None:
        strange = is_unusual(record)
        self._unusual += strange
        if strange and self._unusual <= _SHOWN:
            self.say(unusual(cell, record))
        self.refresh()

    def refresh(self) -> None:
        now, tally = time.monotonic(), self._tally
        moved = tally.finished - self._shown
        if not moved and not tally.progress:
            return
        due = now - self._last >= max(_INTERVAL, (now - self._start) / 20)
        if due or (moved and (moved >= _SHARE * tally.total or tally.finished == tally.total)):
            self._last, self._shown = now, tally.finished
            done = f"{tally.finished:>{len(str(tally.total))}}/{tally.total}"
            self.say("  ".join(filter(None, (done, running(tally), *details(tally)))))

    def say(self, line: str) -> None:
        print(line, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class Bar:
    """A bar with time left, counts, and the best configuration of each task."""

    def __init__(self, tally: Tally) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tally, self._unusual = tally, 0
        self._start = time.monotonic()
        self._details, self._drawn = details(tally), time.monotonic()
        self._live = Live(get_renderable=self._render, console=Console(), refresh_per_second=4, transient=False)
        self._live.start()

    def on_result(self, cell: Cell, record: Record) -> None:
        strange = is_unusual(record)
        self._unusual += strange
        if strange and self._unusual <= _SHOWN:
            self.say(unusual(cell, record))
        if time.monotonic() - self._drawn > _DETAILS or not self._tally.left:
            self._details, self._drawn = details(self._tally), time.monotonic()

    def refresh(self) -> None:
        """The display draws itself."""

    def say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        self._tally.update(0, 0.0)
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        _, counts, best = self._details
        left = time_left(tally)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=tally.total, completed=tally.finished + tally.progress, width=30),
            f"{tally.finished}/{tally.total}",
            running(tally),
            ", ".join(filter(None, (f"{duration(time.monotonic() - self._start)} gone", left))),
        )
        return Group(line, *(Text(text, overflow="fold") for text in (counts, best) if text))


def details(tally: Tally) -> tuple[str, str, str]:
    """Time left, counts by status, and the best configuration per task; parts of which nothing is known are empty."""
    counts = [f"{status} {tally.counts[status]}" for status in (OK, DIVERGED, STOPPED, FAILED) if tally.counts[status]]
    counts += [f"other drivers {tally.elsewhere}"] if tally.elsewhere else []
    best = [f"{task} {shorten(one.config)} {one.text}" for task, one in tally.best().items()]
    return (
        time_left(tally),
        "  ".join(counts),
        f"best so far, improvement lost: {', '.join(best)}" if best else "",
    )


def time_left(tally: Tally) -> str:
    left = tally.seconds_left()
    untimed = f" and {plural(tally.untimed, 'trial')} not timed yet" if tally.untimed else ""
    return "" if left is None else f"{duration(left)}{untimed} left"


def running(tally: Tally) -> str:
    """How many trials run, and how far they are on average."""
    if not tally.running:
        return ""
    share = tally.progress / tally.running
    return f"{tally.running} running" + (f" ({share:.0%} through)" if share else "")


def is_unusual(record: Record) -> bool:
    """Whether a trial diverged, failed or raises an alarm."""
    return record.status not in (OK, STOPPED) or bool(alarms(record.gemm_checks))


def unusual(cell: Cell, record: Record) -> str:
    """One line about a trial that diverged, failed or raises an alarm."""
    name = printed_name(cell.config, record.seed)
    if record.status in (OK, STOPPED):
        return f"alarm: {record.task} {name} {alarms(record.gemm_checks)[0].line()}"
    said = reason(record)
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
    return f"{outcome(record)}: {record.task} {name} {said}"
