"""A script: what the same trials give on the routes of other processors, in a table of Markdown.

`python tests/processors/across.py`: some minutes for each route. With an argument it trains on the route at hand, and
prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.tasks import TASKS
from dse.train.loop import load
from dse.train.processor import fingerprint
from dse.trial import Trial
from tests.processors.branches import Branch, branch, environment, missing

ROUTES: dict[str, Branch] = {
    "Intel, AVX-512": branch("intel"),
    "Intel, AVX2": branch("intel", ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2"),
    "other maker, AVX-512": branch("other"),
    "other maker, AVX2": branch("other", ATEN_CPU_CAPABILITY="avx2"),
    "other maker, torch without vectors": branch("other", ATEN_CPU_CAPABILITY="default"),
    "Intel, AVX-512, MKL_CBWR=COMPATIBLE": branch("intel", MKL_CBWR="COMPATIBLE"),
    "other maker, AVX-512, MKL_CBWR=COMPATIBLE": branch("other", MKL_CBWR="COMPATIBLE"),
}
STEPS = {"regression": 200, "image": 100, "diffusion": 40, "lm": 30}


def digest(*tensors: Tensor) -> str:
    return hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors)).hexdigest()[:8]


def trained() -> dict[str, Any]:
    """Per task: digests of data, batches and initial parameters, the first losses, and the final metrics."""
    found: dict[str, Any] = {"fingerprint": fingerprint()}
    for name, steps in STEPS.items():
        task = TASKS[name]()
        training = replace(task.training(), steps=steps)
        trials = [Trial(task, training, RECIPES[r], 0) for r in ("bf16", "nvfp4", "mxfp4")]
        data, own = load(task, None, "cpu")
        program = TrainStep(trials, data, "cpu", False)
        batch = task.batch(data, program.pack.seeds, program.pack.step, training.batch)
        start = digest(program.pack.flat)
        for _ in range(steps):
            program.step()
        found[name] = {
            "data": own,
            "batches": digest(*batch),
            "initial": start,
            "first": digest(program.log[0]),
            "final": digest(program.pack.flat),
            "metrics": program.evaluate()[task.metric],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("child", nargs="?", choices=["child"], help="train on the route at hand, and print JSON")
    child = parser.parse_args().child
    torch.set_num_threads(1)
    if child:
        print(json.dumps(trained()))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, one in ROUTES.items():
            if why := missing(one):
                print(f"{name}: {why}", file=sys.stderr)
                continue
            command = [sys.executable, __file__, "child"]
            done = subprocess.run(
                command,
                env=environment(one, Path(folder)),
                capture_output=True,
                text=True,
                check=True,
                encoding="utf-8",
            )
            results[name] = json.loads(done.stdout)
            print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    base = next(iter(results.values()))
    print(f"| route | fingerprint | {' | '.join(STEPS)} |\n| --- | --- |{' --- |' * len(STEPS)}")
    for name, own in results.items():
        print(f"| {name} | {own['fingerprint']} | {' | '.join(compare(own[t], base[t]) for t in STEPS)} |")


def compare(own: dict[str, Any], base: dict[str, Any]) -> str:
    """Where two trainings part, and how far their metrics are apart then."""
    parts = {"data": "other data", "batches": "other batches", "initial": "other weights at the start"}
    parted = [words for key, words in parts.items() if own[key] != base[key]]
    if not parted and own["final"] == base["final"]:
        return "equal"
    far = max(abs(a - b) for a, b in zip(own["metrics"], base["metrics"], strict=True))
    same = "first losses equal" if own["first"] == base["first"] else "first losses differ"
    return f"{far:.1e} ({', '.join([*parted, same])})"


if __name__ == "__main__":
    main()
