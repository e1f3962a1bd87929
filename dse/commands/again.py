"""The command that goes on where this one stopped: the very same."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def same() -> str:
    """The command line of this process, for a shell; in words where it is not that of ``dse``.

    >>> same()
    'the same command'
    """
    name = Path(sys.argv[0])
    if name.name != "dse" and name.parts[-2:] != ("dse", "__main__.py"):
        return "the same command"
    program = ["dse"] if name.name == "dse" else ["python", "-m", "dse"]
    return shlex.join([*program, *sys.argv[1:]])
