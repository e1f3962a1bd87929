"""What is printed where a worker runs (by a task of one's own, as warnings), brought to the driver's machine.

Python's own output, that is; what native code writes stays in Ray's session folder.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from dse.terminal import go_on_unheard, prepare

FILE = Path("logs", "workers.log")
"""In the results folder. Several drivers may add to it."""
_MOST = 500  # lines between two questions; of more, the last ones


class WorkerLog:
    """``listen`` once, then ``take`` whatever has been printed since."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST)
        self._lock, self._left = threading.Lock(), 0
        self._who = f"{socket.gethostname()} {os.getpid()}"

    def listen(self) -> None:
        """From now on, in this process. What its streams cannot write is no error of the trial that prints it."""
        prepare()
        go_on_unheard()
        sys.stdout, sys.stderr = _Tee(sys.stdout, self), _Tee(sys.stderr, self)

    def add(self, line: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock:
            self._left += len(self._lines) == _MOST
            self._lines.append(f"{now} {self._who}: {line}")

    def take(self) -> list[str]:
        with self._lock:
            lines, left = list(self._lines), self._left
            self._lines.clear()
            self._left = 0
        return [f"... {left} lines left out", *lines] if left else lines


class _Tee(io.TextIOBase):
    """Writes through, and remembers whole lines."""

    def __init__(self, through: TextIO, said: WorkerLog) -> None:
        self._through, self._said, self._begun = through, said, ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, whole):
            self._said.add(line)
        return self._through.write(text)

    def flush(self) -> None:
        self._through.flush()

    def fileno(self) -> int:
        return self._through.fileno()


def write_down(results: Path | None, lines: Sequence[str]) -> None:
    """Adds lines to the log; a folder that cannot be written costs the log alone."""
    if results is None or not lines:
        return
    with suppress(OSError):
        path = results / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
