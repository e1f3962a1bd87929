"""Messages of commands on standard error, beside their result on standard output."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


__all__ = ["say"]
