"""Golden of results: the records of a few tiny sweeps, and the files that running them leaves."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.golden.makers.common import EXACT, FOLDER, PROCESSOR, digest, processor
from tests.records import OF_THE_MACHINE

CASES = FOLDER / "cases"
_LEFT_OUT = ("gemm_checks", "seconds", "started", "versions", "code", "device", "host")
"""Of the machine, the time and the text of the code; checks of products are compared in tests/alarms."""
_BY_CHANCE = ("width", "position", "resumed_at", *OF_THE_MACHINE)
"""Of the packs that a sweep is divided into, which depends on how fast it goes; of the checkout and the machine."""


def records() -> dict[str, Any]:
    """Of every sweep in ``cases``: each trial's record as data, and a digest of it that every bit takes part in."""
    found = dict[str, Any]()
    for path in sorted(CASES.glob("*.yaml")):
        with TemporaryDirectory() as folder:
            for record in run(path, Path(folder)):
                own = content(record)
                own["pack"] = {name: fact for name, fact in own["pack"].items() if name not in _BY_CHANCE}
                key = f"{path.stem}: {own['task'].rpartition(':')[2]} {own['config']} seed {own['seed']}"
                found[f"{EXACT}{key}"] = digest(json.dumps(own))
                found[key] = {name: value for name, value in own.items() if name != "data"}  # its last bits, too
    return {PROCESSOR: processor()} | found


def run(path: Path, results: Path) -> list[Any]:
    """The records of a sweep that is run in this process."""
    from dse.results.store import Store
    from dse.run.engine import run_sweep
    from dse.sweep import load_sweep
    from dse.train.options import RunOptions

    store = Store(results)
    run_sweep(load_sweep(path), store, RunOptions("local", track=False, progress=False))
    return store.records()


def content(record: Any) -> dict[str, Any]:
    """A record's line as data, without what depends on machine and time; of a traceback its last line."""
    own: dict[str, Any] = {name: value for name, value in json.loads(record.line()).items() if name not in _LEFT_OUT}
    for name in ("processor", "compiled"):
        own["pack"].pop(name, None)
    if own["error"]:
        own["error"] = own["error"].strip().splitlines()[-1]
    return own
