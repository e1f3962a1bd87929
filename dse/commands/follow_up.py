"""What a command says besides its answer: the command that goes on, and what of the results is damaged."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.results.store import Store


def same() -> str:
    """The command line of this process, for a shell; in words where it is not that of ``dse``.

    >>> same()
    'the same command'
    """
    name = Path(sys.argv[0])
    if name.name != "dse" and name.parts[-2:] != ("dse", "__main__.py"):
        return "the same command"
    program = ["dse"] if name.name == "dse" else ["python", "-m", "dse"]
    return shlex.join([*program, *sys.argv[1:]])


def say_damage(store: Store) -> None:
    """One line on standard error about what the last reading of a store had to leave out."""
    if said := str(store.damage):
        print(f"note: {said}", file=sys.stderr)


def say_manifests(results: Path) -> None:
    """One line on standard error about what is known of sweeps but cannot be read."""
    from dse.results.manifest import unreadable

    if paths := unreadable(results):
        names = ", ".join(map(str, paths))
        print(f"note: damaged, and left out: {names}; `dse run` of the sweep writes it anew", file=sys.stderr)
