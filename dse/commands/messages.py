"""What a command says beside its result, on standard error."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


__all__ = ["say"]
