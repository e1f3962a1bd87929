"""Showing a running sweep: a live bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from dse.results.outcome import outcome, reason
from dse.results.record import DIVERGED, FAILED, OK, STOPPED, Record
from dse.run.tally import Tally
from dse.sweep.language.labels import cut
from dse.text import short_duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dse.sweep import Cell

_INTERVAL = 10.0  # seconds between plain lines at first; later they get rarer
_SHARE = 0.05  # of the trials, after which a plain line is due as well
_DETAILS = 1.0  # seconds between looks at the whole standing, whose cost grows with the sweep
_LONGEST = 240  # characters of a reason
_SHOWN = 5  # failed and diverged trials that get a line of their own


class Progress(Protocol):
    """A display; ``close`` leaves the terminal as it was."""

    def finished(self, cell: Cell, record: Record) -> None: ...
    def beat(self) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


def make_progress(standing: Tally, wanted: bool = True) -> Progress:
    """The display that suits standard output."""
    if not wanted:
        return Silent()
    return Bar(standing) if sys.stdout.isatty() else Lines(standing)


class Silent:
    """No display."""

    def finished(self, cell: Cell, record: Record) -> None:
        """Shows nothing."""

    def beat(self) -> None:
        """Shows nothing."""

    def say(self, line: str) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Nothing to end."""


class Lines:
    """A line every 10 s or 5 % of the trials, rarer in a long run: for logs."""

    def __init__(self, standing: Tally) -> None:
        self._standing = standing
        self._start = self._last = time.monotonic()
        self._shown, self._unusual = 0, 0

    def finished(self, cell: Cell, record: Record) -> None:
        self._unusual += record.status not in (OK, STOPPED)
        if record.status not in (OK, STOPPED) and self._unusual <= _SHOWN:
            self.say(unusual(cell, record))
        self.beat()

    def beat(self) -> None:
        now, standing = time.monotonic(), self._standing
        moved = standing.finished - self._shown
        if not moved and not standing.under_way:
            return
        due = now - self._last >= max(_INTERVAL, (now - self._start) / 20)
        if due or (moved and (moved >= _SHARE * standing.total or standing.finished == standing.total)):
            self._last, self._shown = now, standing.finished
            done = f"{standing.finished:>{len(str(standing.total))}}/{standing.total}"
            self.say("  ".join(filter(None, (done, running(standing), *details(standing)))))

    def say(self, line: str) -> None:
        print(line, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class Bar:
    """A bar with time left, counts, and the best configuration of each task."""

    def __init__(self, standing: Tally) -> None:
        from rich.console import Console
        from rich.live import Live

        self._standing, self._unusual = standing, 0
        self._start = time.monotonic()
        self._details, self._drawn = details(standing), time.monotonic()
        self._live = Live(get_renderable=self._render, console=Console(), refresh_per_second=4, transient=False)
        self._live.start()

    def finished(self, cell: Cell, record: Record) -> None:
        self._unusual += record.status not in (OK, STOPPED)
        if record.status not in (OK, STOPPED) and self._unusual <= _SHOWN:
            self.say(unusual(cell, record))
        if time.monotonic() - self._drawn > _DETAILS or not self._standing.left:
            self._details, self._drawn = details(self._standing), time.monotonic()

    def beat(self) -> None:
        """The display draws itself."""

    def say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        self._standing.move(0, 0.0)
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        standing = self._standing
        _, counts, best = self._details
        left = time_left(standing)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=standing.total, completed=standing.finished + standing.under_way, width=30),
            f"{standing.finished}/{standing.total}",
            running(standing),
            ", ".join(filter(None, (f"{short_duration(time.monotonic() - self._start)} gone", left))),
        )
        return Group(line, *(Text(text, overflow="fold") for text in (counts, best) if text))


def details(standing: Tally) -> tuple[str, str, str]:
    """Time left, counts by status, and the best configuration per task; parts of which nothing is known are empty."""
    counts = [
        f"{status} {standing.counts[status]}" for status in (OK, DIVERGED, STOPPED, FAILED) if standing.counts[status]
    ]
    counts += [f"other drivers {standing.others}"] if standing.others else []
    best = [f"{task} {cut(config)} {percent:+.3g} %" for task, (config, percent) in standing.best().items()]
    return (
        time_left(standing),
        "  ".join(counts),
        f"best so far: {', '.join(best)}" if best else "",
    )


def time_left(standing: Tally) -> str:
    left = standing.seconds_left()
    return "" if left is None else f"{short_duration(left)} left"


def running(standing: Tally) -> str:
    """How many trials run, and how far they are on average."""
    if not standing.busy:
        return ""
    share = standing.under_way / standing.busy
    return f"{standing.busy} running" + (f" ({share:.0%} through)" if share else "")


def unusual(cell: Cell, record: Record) -> str:
    """One line about a trial that diverged or failed."""
    said = reason(record)
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
    return f"{outcome(record)}: {record.task} {cut(cell.config)} seed {record.seed} {said}"
