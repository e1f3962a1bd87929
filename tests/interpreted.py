"""Programs under Triton's interpreter, which has to be chosen before Triton is imported: each in a fork of one process.

The process imports torch, Triton and the kernels once. Each program runs in a fork of it, so nothing that a program
changes reaches the next.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def interpreted(*command: str, faster: bool = True) -> str:
    """What ``python COMMAND`` prints; ``faster``: under the interpreter of ``tests.faster_interpreter``.

    COMMAND is ``-c PROGRAM`` or a script, and its arguments. Raises AssertionError with the end of what was printed
    where it fails.
    """
    process = _parent(faster)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(command) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"the process with Triton's interpreter ended with {process.wait()}"
    status, out, err = json.loads(answer)
    assert status == 0, out[-2000:] + err[-3000:]
    return str(out).strip()


@cache
def _parent(faster: bool) -> subprocess.Popen[str]:
    """The process that forks; it ends when this one does, which closes its input."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.forked", *["faster"] * faster],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
