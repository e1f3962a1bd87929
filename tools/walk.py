"""Walk of one trial: the files that a training enters, in the order in which their functions are first called.

Each line of the output is a stay: a file, and the functions that are first called there before one of another file is.
The last line counts stays, files, and stays in files that were entered before. Read along it to learn the code.

    PYTHONPATH=. python tools/walk.py [RECIPE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parents[1]


def walk(call: Callable[[], object]) -> list[tuple[str, list[str]]]:
    """The stays of a call: file and functions. What runs while a module is imported is left out."""
    seen: set[CodeType] = set()
    stays: list[tuple[str, list[str]]] = []

    def trace(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        file = code.co_filename.removeprefix(f"{ROOT}/")
        if code in seen or code.co_name.startswith("<") or not file.startswith(("dse/", "tasks/")):
            return
        seen.add(code)
        if not stays or stays[-1][0] != file:
            stays.append((file, []))
        stays[-1][1].append(code.co_qualname)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return stays


def main() -> None:
    """Prints the walk of a small regression trial."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", nargs="?", default="mxfp4", help="of the trial (%(default)s)")
    name = parser.parse_args().recipe

    from dse.recipes import RECIPES
    from dse.train.loop import run_pack
    from dse.trial import Trial, make_task

    task, recipe = make_task("regression", {}), RECIPES[name]
    trial = Trial(task, replace(task.training(), steps=3, batch=4, eval_every=2), recipe, seed=0)
    for file, functions in (stays := walk(lambda: run_pack([trial]))):
        print(f"{file}: {', '.join(functions)}")
    files = {file for file, _ in stays}
    print(f"{len(stays)} stays in {len(files)} files, {len(stays) - len(files)} in files entered before")


if __name__ == "__main__":
    main()
