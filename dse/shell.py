"""Commands as they are printed: pasted into the shell that shows one, it works as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

DEFAULTS = {
    "results": "results",
    "out": "reports",
    "executor": "ray",
    "device": "auto",
    "gpus_per_worker": "1.0",
    "retry": "none",
    "port": "5000",
}
"""What an option is without being given: then it is not printed."""
STAYING = ("data_dir", "device", "executor", "gpus_per_worker")
"""Options of `dse run` without which a sweep's trials may not run again; a results folder remembers them."""


def command(verb: str, *words: object, **options: object) -> str:
    """`dse VERB WORDS --OPTION VALUE`, quoted for a shell. Options that are None, False or at their default are left
    out; True is a flag; a list repeats its option.

    >>> command("run", "my sweep.yaml", results="results", data_dir="/data", retry="failed", only=["a", "b@0"])
    "dse run 'my sweep.yaml' --data-dir /data --retry failed --only a --only b@0"
    """
    parts = ["dse", verb, *map(str, words)]
    for name, value in options.items():
        if value is None or value is False or str(value) == DEFAULTS.get(name):
            continue
        option = "--" + name.replace("_", "-")
        if value is True:
            parts.append(option)
            continue
        several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        for one in several:
            parts += [option, str(one)]
    return shlex.join(parts)


STARTER = "sweep.yaml"
"""The sweep file that `dse init` writes."""
SHIPPED = "sweeps/quickstart.yaml"
"""The sweep file that a checkout of the project begins with."""


def first_run(results: object) -> str:
    """The command that somebody with an empty results folder starts with; it names no file that is not there."""
    found = next((name for name in (STARTER, SHIPPED) if Path(name).is_file()), None)
    start = command("run", found or STARTER, results=results)
    return start if found else f"{command('init')} && {start}"


__all__ = ["DEFAULTS", "SHIPPED", "STARTER", "STAYING", "command", "first_run"]
