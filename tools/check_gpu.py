"""Checks and times everything that needs a GPU, in one run: python tools/check_gpu.py [--out FOLDER] [--only NAME ...]

Each job is a process of its own with a time limit, so that one that fails or hangs does not take the others along; its
output goes to FOLDER/NAME.txt, tables as JSON beside it. A bare machine is enough: torch, triton and numpy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Job:
    """``command``: arguments of Python; ``{out}`` is the folder. ``limit``: seconds. ``lines``: of its end to show."""

    name: str
    command: str
    limit: int
    lines: int = 3


JOBS = (
    Job("optimizers", "tests/gpu/test_optimizers_on_cuda.py", 60, 12),
    Job("batches", "tests/tasks/test_packs_on_cuda.py", 60, 8),
    Job("fused", "tests/gpu/test_fused_on_cuda.py", 60, 12),
    Job("packs", "tests/gpu/test_packs_on_cuda.py", 240, 12),
    Job("gradients", "tests/gpu/test_gradients_on_cuda.py", 180, 14),
    Job("weight-rules", "tests/kernels/weight_rule_cases.py", 90, 8),
    Job("bench-kernels", "-m dse.bench.kernels quick", 90, 60),
    Job("bench-sweep", "-m dse.bench.sweep --device cuda --out {out}/sweep.json", 90, 4),
    Job("bench-packs", "-m dse.bench.packs --tables --seconds 0.6 --budget 450 --out {out}/packs.json", 500, 120),
    Job("kernels", "tests/gpu/test_kernels_equal.py 14", 240, 12),
    Job("reference", "tests/gpu/test_reference_on_cuda.py", 90, 3),
)
"""Timings before the long comparison, which keeps all processors busy with compiling."""


def run(job: Job, out: Path) -> tuple[str, float, list[str]]:
    """What became of a job ('ok', 'failed', 'time limit'), its seconds, and the end of its output."""
    log, start = out / f"{job.name}.txt", time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, *(part.format(out=out) for part in job.command.split())]
    with log.open("w", encoding="utf-8") as stream:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=job.limit,
                check=False,
            )
            state = "ok" if done.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            state = "time limit"
    lines = log.read_text(errors="replace", encoding="utf-8").splitlines()[-job.lines :]
    return state, time.perf_counter() - start, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder for outputs and tables")
    parser.add_argument("--only", nargs="*", choices=[job.name for job in JOBS], help="some of the jobs")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    states = {}
    for job in JOBS:
        if given.only and job.name not in given.only:
            continue
        state, seconds, lines = run(job, out)
        states[job.name] = state
        print(
            f"== {job.name}: {state} in {seconds:.0f} s", *(f"   {line[:180]}" for line in lines), sep="\n", flush=True
        )
    print("summary:", ", ".join(f"{name} {state}" for name, state in states.items()))
    sys.exit(any(state != "ok" for state in states.values()))


if __name__ == "__main__":
    main()
