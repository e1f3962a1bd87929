"""Notes that commands print beside their answer: how to resume a run, damage in the results, code that has changed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dse.results.record import Record
    from dse.results.store import Store
    from dse.sweep import Cell


def same_command() -> str:
    """The command line of this process, for a shell; in words where it is not that of ``dse``.

    >>> same_command()
    'the same command'
    """
    name = Path(sys.argv[0])
    if name.name != "dse" and name.parts[-2:] != ("dse", "__main__.py"):
        return "the same command"
    program = ["dse"] if name.name == "dse" else ["python", "-m", "dse"]
    return shlex.join([*program, *sys.argv[1:]])


def say_damage(store: Store) -> None:
    """Prints one line on standard error about results that cannot be read, if there are any."""
    if said := str(store.damage):
        print(f"note: {said}", file=sys.stderr)


def say_changed_code(cells: Iterable[Cell], records: Iterable[Record]) -> None:
    """Prints one line on standard error about code that has changed since results were recorded, if any has."""
    from dse.results.changed_code import changed_code

    if said := changed_code((cell.trial for cell in cells), records):
        print(f"note: {said}", file=sys.stderr, flush=True)


def say_manifests(results: Path) -> None:
    """Prints one line on standard error about manifests that cannot be read, if there are any."""
    from dse.results.manifest import damaged_manifests

    if paths := damaged_manifests(results):
        names = ", ".join(map(str, paths))
        print(f"note: damaged, and left out: {names}; `dse run` of the sweep writes it anew", file=sys.stderr)
