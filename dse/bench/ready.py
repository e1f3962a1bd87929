"""Seconds until a pack trains on a GPU, from an empty cache of kernels and from a full one.

On a bare GPU machine: python -m dse.bench.ready [--model gpt128] [RECIPE ...]; without recipes: the pack of all, then
the slowest ones. Every line is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch

from dse.bench.models import SUBJECTS
from dse.version import IMPORT_ROOT

ALL = "all"
_SHOWN = (ALL, "nvfp4", "quartet2_sr", "tseng_mxfp4", "graphcore_ue5m3", "quartet", "mxfp4_rht_sr")
_STEPS = 5
"""Until a graph is captured and replayed once: see ``dse.pack.cuda_graph``."""
_TABLE = "{:20s} {:>6s} {:>8s} {:>8s} {:>8s} {:>8s} {:>8s}  {}"


def measured(name: str, model: str, device: str) -> dict[str, Any]:
    """In this process: ``kernels`` and the seconds for compiling them (``ahead``); for making the pack and everything
    before a captured step (``ready``); and the kernels that ``missed``, which the steps compiled themselves.
    """
    from dse.bench.timed_packs import Running, trials
    from dse.recipes import RECIPES

    recipes = tuple(RECIPES) if name == ALL else (name,)
    members = trials(SUBJECTS[model](False), 2 * len(recipes), recipes)
    torch.zeros(1, device=device)
    start, missed = time.perf_counter(), list[str]()
    running = Running(members, device)
    if device.startswith("cuda"):
        from triton import knobs

        def note(**facts: Any) -> None:
            if not facts["cache_hit"]:
                missed.append(facts["src"].name)

        knobs.compilation.listener = note
    for _ in range(_STEPS if device.startswith("cuda") else 1):
        running.step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    ahead = running.ahead
    ready = time.perf_counter() - start
    return {"kernels": ahead.kernels, "ahead": ahead.seconds, "ready": ready, "missed": missed, "why": ahead.problems}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line for each pack: with an empty cache, then with the same cache, now full."""
    parser = argparse.ArgumentParser(prog="python -m dse.bench.ready", description=__doc__)
    parser.add_argument("recipes", nargs="*", default=[], help=f"recipes, or {ALL}")
    parser.add_argument("--model", default="gpt128", choices=SUBJECTS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.here:
        print(json.dumps(measured(given.recipes[0], given.model, given.device)))
        return
    print(_TABLE.format("pack", "", "kernels", "ahead s", "ready s", "process", "missed", "problems"), flush=True)
    for name in given.recipes or _SHOWN:
        with tempfile.TemporaryDirectory() as cache:
            for state in ("empty", "full"):
                print(_line(name, state, given, cache), flush=True)


def _line(name: str, state: str, given: argparse.Namespace, cache: str) -> str:
    command = [sys.executable, "-m", "dse.bench.ready", name, "--model", given.model, "--device", given.device]
    places = os.pathsep.join(filter(None, (str(IMPORT_ROOT), os.environ.get("PYTHONPATH"))))
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--here"],
        env=dict(os.environ, TRITON_CACHE_DIR=cache, PYTHONPATH=places),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    process = time.perf_counter() - start
    if done.returncode:
        return f"{name:20s} {state:>6s} failed"
    found = json.loads(done.stdout.splitlines()[-1])
    kinds = ", ".join(sorted(set(found["missed"])))
    numbers = [f"{number:.1f}" for number in (found["ahead"], found["ready"], process)]
    why = "; ".join(filter(None, (kinds, *found["why"][:2])))
    return _TABLE.format(name, state, str(found["kernels"]), *numbers, str(len(found["missed"])), why)


if __name__ == "__main__":
    main()
