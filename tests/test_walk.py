"""The walk of one trial (``tools/walk.py``): files in the order in which their functions are first called."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from dse.text import duration, plural, slug

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "walk.py"


def test_a_trial_is_walked_from_run_pack_to_its_record() -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(TOOL), "nvfp4"], env=env, capture_output=True, text=True, check=True)
    *stays, last = done.stdout.splitlines()
    files = [stay.partition(": ")[0] for stay in stays]
    functions = [name for stay in stays for name in stay.partition(": ")[2].split(", ")]
    assert (files[0], functions[0]) == ("dse/train/loop.py", "run_pack")
    assert all((ROOT / file).is_file() for file in files)
    assert all(a != b for a, b in pairwise(files)), "a stay ends where another file is entered"
    names = ["PackRun.__init__", "TrainStep.__init__", "PackRun.step", "TrainStep.step", "PackRun.finish", "_record"]
    assert [name for name in functions if name in names] == names
    again = len(files) - len(set(files))
    assert last == f"{len(files)} stays in {len(set(files))} files, {again} in files entered before"


def test_a_function_counts_once() -> None:
    """And a file that is entered again begins a new stay only with a function that is new."""
    spec = importlib.util.spec_from_file_location("walk", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call() -> None:
        plural(1, "word")
        duration(7000.0)
        slug("a b")
        plural(2, "word")

    before = sys.gettrace()
    (stay,) = module.walk(call)
    assert stay == ("dse/text.py", ["plural", "noun", "duration", "slug", "underscored"])
    assert sys.gettrace() is before
