"""Standard output and error that never end a command: characters they cannot write, readers that have gone.

What the encoding of a stream lacks (``×`` under ASCII) is written as ``\\xd7``. A reader that goes away (``| head``)
ends most commands quietly; a sweep goes on without being heard, since its results are on disk and not in its output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

PrintLine = Callable[[str], None]
"""Prints one line of progress, as ``print`` does."""


class Stream:
    """A text stream whose ``write`` and ``flush`` survive a closed pipe; everything else is the stream's own.

    ``goes_on``: whether the program continues once nobody reads; else it ends with exit code 0.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.goes_on = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._gone(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._gone(error)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def _gone(self, error: OSError) -> None:
        """From now on everything goes to the null device: Python flushes once more at exit, and must not complain."""
        if not self.goes_on and not isinstance(error, BrokenPipeError):
            raise error
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, self._stream.fileno())
        os.close(null)
        if not self.goes_on:
            raise SystemExit(0)


def prepare() -> None:
    """Makes this process' standard streams safe to print to. Twice is the same as once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - for the process' life
            continue
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")
        if not isinstance(stream, Stream):
            setattr(sys, name, Stream(stream))


def go_on_unheard() -> None:
    """A reader that goes away does not end this program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Stream):
            stream.goes_on = True


__all__ = ["Stream", "go_on_unheard", "prepare"]
