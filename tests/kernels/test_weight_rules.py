"""Weight rules by kernels in Triton's interpreter: plain torch's bits, also of members that skip a step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_several_steps_of_every_rule() -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    root = Path(__file__).parents[2]
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    script = str(root / "tests" / "kernels" / "weight_rule_cases.py")
    run = subprocess.run([sys.executable, "-W", "ignore", script], cwd=root, env=env, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    assert run.stdout.endswith(" 0 differ\n")
