"""A process that compiles kernels without touching a GPU: python -m dse.kernels.compile_worker

It reads pickled jobs from its standard input, and answers each by a line: 'ok', or why the compiler refused.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import sys
from typing import BinaryIO

_PATIENCE = 5
"""By which it is nicer than others: processes that train on the same machine go first."""


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Until the jobs' end."""
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        try:
            job.compile()
            answer = "ok"
        except Exception as error:  # noqa: BLE001 - the launch itself will raise it again
            lines = str(error).strip().splitlines() or [""]
            answer = f"{type(error).__name__}: {lines[-1]}"
        answers.write(answer.encode() + b"\n")
        answers.flush()


def main() -> None:
    """Serves its standard input."""
    argparse.ArgumentParser(prog="python -m dse.kernels.compile_worker", description=__doc__).parse_args()
    with contextlib.suppress(OSError):
        os.nice(_PATIENCE)
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what compilers print is no answer
    serve(sys.stdin.buffer, channel)


if __name__ == "__main__":
    main()
