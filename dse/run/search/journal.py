"""What a search has asked for: ``searches/NAME.jsonl`` in the results folder, one batch per line.

Several drivers may write it: whoever comes second to ask a batch takes what the first has asked. A lost journal is
written again by the search itself, from the results.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dse.errors import UserError
from dse.run.lock import turn, unwritable
from dse.sweep import Assignment, Space

FOLDER = "searches"
_TURN = ".turn"


def asked(results: Path, name: str, space: Space) -> dict[str, list[Assignment]]:
    """Task -> the configurations asked for so far, in order, each once; those that are not of this space are left out:
    they were asked for before the sweep's file was changed."""
    found: dict[str, list[Assignment]] = {task: [] for task in space.tasks}
    seen = set()
    for assignment in _read(_path(results, name)):
        if (key := key_of(assignment)) not in seen:
            seen.add(key)
            with suppress(UserError):
                space.told(assignment)
                found[str(assignment["task"])].append(assignment)
    return found


def ask(results: Path, name: str, space: Space, task: str, known: int, batch: Sequence[Assignment]) -> list[Assignment]:
    """Writes a batch down that follows the ``known`` first configurations of a task, and returns it; or what another
    driver has asked for there meanwhile. Raises UserError when the folder cannot be written."""
    path = _path(results, name)
    with turn(path.parent, _TURN):
        if more := asked(results, name, space)[task][known:]:
            return more
        _append(path, json.dumps([dict(assignment) for assignment in batch], separators=(",", ":")), results)
    return list(batch)


def key_of(assignment: Assignment) -> tuple[tuple[str, object], ...]:
    """What tells an assignment from others; 1 and 1.0 and True are three labels."""
    return tuple((axis, (type(label).__name__, label)) for axis, label in sorted(assignment.items()))


def _read(path: Path) -> list[Assignment]:
    """Every assignment, in order; lines that are torn or damaged are left out."""
    found: list[Assignment] = []
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return found
    for line in lines:
        with suppress(ValueError):
            batch = json.loads(line)
            if isinstance(batch, list):
                found += [item for item in batch if isinstance(item, Mapping)]
    return found


def _append(path: Path, line: str, results: Path) -> None:
    """Adds a line durably, behind a torn one if its writer was killed."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            data = ("\n" * torn + line + "\n").encode()
            if os.write(fd, data) != len(data):
                raise OSError("disk full")
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise unwritable(results, error) from None


def _path(results: Path, name: str) -> Path:
    return results / FOLDER / (re.sub(r"[^\w.-]+", "_", name) + ".jsonl")
