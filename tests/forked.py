"""A process that runs each program it is told in a fork of itself: see ``tests.interpreted``.

``python -m tests.forked [faster | torch]`` reads a line of JSON per program, its words, and answers with a line of
JSON: the exit status, what it printed, and what it printed to the error output. With ``torch`` it has imported that and
nothing of this package.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
from collections.abc import Sequence
from typing import IO


def main(mode: str) -> None:
    """Answers until the input ends."""
    if mode == "torch":
        import torch  # noqa: F401
    else:
        if mode == "faster":
            from tests.faster_interpreter import install

            install()
        _import()
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)


def _import() -> None:
    """What all programs need; nothing is computed, so no thread is started before a fork."""
    import dse.fused
    import dse.pack.pack
    import dse.recipes
    import dse.tasks  # noqa: F401


def forked(words: Sequence[str]) -> tuple[int, str, str]:
    """The exit status of a program in a process of its own, its output and its error output."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        child = os.fork()
        if child == 0:
            _child(words, out, err)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


def _child(words: Sequence[str], out: IO[str], err: IO[str]) -> None:
    """Runs the program and ends, as ``python WORDS`` would, with its output in files."""
    import traceback

    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    status = 0
    try:
        run(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - told as Python tells it
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run(words: Sequence[str]) -> None:
    """``-c PROGRAM`` or a script, with its arguments, as the main module."""
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<program>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main("".join(sys.argv[1:]))
