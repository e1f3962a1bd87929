"""Log of what workers print (warnings of a user's own task, say), collected on the driver's machine.

It has what Python code prints; the output of native code stays in the session folder of Ray.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from dse.results.record import Record
from dse.terminal import go_on_unheard, prepare

FILE = Path("logs", "workers.log")
"""The log in the results folder. Several drivers may add to it."""
_MOST_LINES = 500  # kept between two calls of ``drain``; of more, the last ones


class WorkerLog:
    """Lines printed in a worker's process, kept until the driver asks: ``install`` once, then ``drain`` often."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._lock, self._dropped = threading.Lock(), 0
        self._process = f"{socket.gethostname()} {os.getpid()}"

    def install(self) -> None:
        """Keeps lines from now on. An error in writing to the process's own streams is no error of the trial."""
        prepare()
        go_on_unheard()
        sys.stdout, sys.stderr = _Tee(sys.stdout, self), _Tee(sys.stderr, self)

    def add(self, line: str) -> None:
        """Keeps one line, with the time and the process."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock:
            self._dropped += len(self._lines) == _MOST_LINES
            self._lines.append(f"{now} {self._process}: {line}")

    def drain(self) -> list[str]:
        """The lines since the last call, and how many were dropped."""
        with self._lock:
            lines, dropped = list(self._lines), self._dropped
            self._lines.clear()
            self._dropped = 0
        return [f"... {dropped} lines left out", *lines] if dropped else lines


class _Tee(io.TextIOBase):
    """A stream that writes to another one and adds whole lines to a log."""

    def __init__(self, stream: TextIO, log: WorkerLog) -> None:
        self._stream, self._log, self._rest = stream, log, ""

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, whole):
            self._log.add(line)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


def append_lines(results: Path | None, lines: Sequence[str]) -> None:
    """Appends lines to the log of a results folder; where it cannot be written they are dropped."""
    if results is None or not lines:
        return
    with suppress(OSError):
        path = results / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


class TrialLogs:
    """Reads the log of a results folder trial by trial; the file is read again when it has grown."""

    def __init__(self, results: Path) -> None:
        self._file = results / FILE
        self._size = 0
        self._lines: dict[str, list[tuple[datetime, str]]] = {}

    def of(self, record: Record) -> list[str]:
        """The lines that a trial's worker printed while the trial's pack ran, with their times; other trials of the
        pack may have caused them. Empty where it printed nothing, or the record is from before it named the process.
        """
        pid, seconds = record.pack.get("pid"), record.pack.get("pack_seconds")
        if pid is None or seconds is None or not record.started:
            return []
        self._read()
        begun = datetime.fromisoformat(record.started)  # in whole seconds, as the times in the log
        ended = begun + timedelta(seconds=seconds + 2)
        own = self._lines.get(f"{record.host} {pid}", ())
        return [f"{time.isoformat(timespec='seconds')} {text}" for time, text in own if begun <= time <= ended]

    def _read(self) -> None:
        with suppress(OSError), self._file.open(encoding="utf-8", errors="replace") as file:
            size = os.fstat(file.fileno()).st_size
            if size == self._size:
                return
            self._size, self._lines = size, {}
            for line in file:
                time, _, rest = line.rstrip("\n").partition(" ")
                process, own, text = rest.partition(": ")
                with suppress(ValueError):  # a line about lines that were left out has no time
                    if own:
                        self._lines.setdefault(process, []).append((datetime.fromisoformat(time), text))


__all__ = ["FILE", "TrialLogs", "WorkerLog", "append_lines"]
