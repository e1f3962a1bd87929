"""Golden files: what must not change when code only moves. Rewrites them: ``python tests/golden/make.py [NAME ...]``.

``results`` and ``checkpoints`` as a NAME write the files that some goldens read: a format that has to stay readable.

Every golden is plain text or JSON that does not depend on the folder or the time. Entries whose name begins with
``exact`` depend on the last bits that a processor gives; they are compared where the entry ``processor`` is the same.
A golden that has to change (a technique whose arithmetic was wrong) is rewritten in the commit that changes it, and
the commit says why.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the tests: more threads give other last bits
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.golden.makers.checkpoint import checkpoint, write_checkpoints
from tests.golden.makers.commands import commands
from tests.golden.makers.common import FOLDER, ROOT
from tests.golden.makers.errors import errors
from tests.golden.makers.fixed import write_results
from tests.golden.makers.imports import imports
from tests.golden.makers.numerics import costs, random_streams, recipes
from tests.golden.makers.printed import printed
from tests.golden.makers.records import records
from tests.golden.makers.report import report
from tests.golden.makers.store import store
from tests.golden.makers.sweeps import configurations, identities, plan, schema

GOLDENS: dict[str, Callable[[], dict[str, Any]]] = {
    "identities": identities,
    "configurations": configurations,
    "schema": schema,
    "errors": errors,
    "plan": plan,
    "commands": commands,
    "imports": imports,
    "recipes": recipes,
    "random_streams": random_streams,
    "costs": costs,
    "records": records,
    "store": store,
    "report": report,
    "printed": printed,
    "checkpoint": checkpoint,
}
INPUTS: dict[str, Callable[[], Path]] = {"results": write_results, "checkpoints": write_checkpoints}
"""Folders that goldens are made of: written anew only when they are named, since what is in them is from before."""


def path_of(name: str) -> Path:
    """Where a golden lies."""
    return FOLDER / f"{name}.json"


def text_of(content: dict[str, Any]) -> str:
    """A golden as it is written: a line an entry."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in content.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join((*GOLDENS, *INPUTS))} (all goldens)")
    names = parser.parse_args().names
    if unknown := sorted({*names}.difference(GOLDENS, INPUTS)):
        parser.error(f"no golden {unknown[0]!r}")
    for name in names or GOLDENS:
        if name in INPUTS:
            print(INPUTS[name]().relative_to(ROOT))
            continue
        path_of(name).write_text(text_of(GOLDENS[name]()), encoding="utf-8")
        print(path_of(name).relative_to(ROOT))


if __name__ == "__main__":
    main()
