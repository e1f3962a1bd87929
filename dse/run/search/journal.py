"""Journal of a search: the configurations it has asked for, ``searches/IDENTITY.jsonl``, one batch per line.

Several drivers may write it: the second one to ask for a batch takes what the first has asked for. A lost journal is
written again by the search itself, from the results. The configurations of a damaged line are taken from the sweep's
manifest, so that they are counted and not asked for again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dse.errors import UserError
from dse.files import unwritable
from dse.results.lock import exclusive_lock
from dse.results.manifest import read_manifest
from dse.sweep import Assignment, Space
from dse.text import underscored

FOLDER = "searches"
_TURN = ".turn"


@dataclass
class Asked:
    """``by_task``: task -> the configurations asked for so far, in order, each once; ``damaged``: lines that cannot be
    read, of whose configurations so many are ``recovered``; ``path``: of the journal."""

    by_task: dict[str, list[Assignment]]
    path: Path
    damaged: int = 0
    recovered: int = 0
    _seen: set[object] = field(default_factory=set)

    def add(self, assignment: Assignment, space: Space) -> bool:
        """Whether it is new, and of this space: others were asked for before the sweep's file was changed."""
        if (key := key_of(assignment)) in self._seen:
            return False
        self._seen.add(key)
        try:
            space.choices_of(assignment)
        except UserError:
            return False
        self.by_task[str(assignment["task"])].append(assignment)
        return True

    @property
    def warning(self) -> str:
        """For the user, about damaged lines; '' without any."""
        if not self.damaged:
            return ""
        lines = "a damaged line" if self.damaged == 1 else f"{self.damaged} damaged lines"
        if self.recovered:
            return (
                f"{lines} in {self.path}: {self.recovered} configurations are known from the sweep's manifest instead"
            )
        return f"{lines} in {self.path}: what was asked for there is unknown, and asked for again if it counts"


def asked(results: Path, name: str, space: Space) -> dict[str, list[Assignment]]:
    """Task -> the configurations asked for so far, in order, each once. ``name``: the sweep's identity there."""
    return read(results, name, space).by_task


def read(results: Path, name: str, space: Space) -> Asked:
    """The journal of a sweep, by its identity in the results folder."""
    found = Asked({task: [] for task in space.tasks}, _path(results, name))
    lines = _lines(found.path)
    batches = [_batch(line) for line in lines]
    found.damaged = sum(batch is None for batch in batches)
    lost = _from_manifest(results, name, space, batches) if found.damaged else []
    for batch in batches:
        if batch is None:  # of several damaged lines the first one gets everything
            found.recovered += sum(found.add(assignment, space) for assignment in lost)
            continue
        for assignment in batch:
            found.add(assignment, space)
    return found


def ask(results: Path, name: str, space: Space, task: str, known: int, batch: Sequence[Assignment]) -> list[Assignment]:
    """Writes a batch down that follows the ``known`` first configurations of a task, and returns it; or what another
    driver has asked for there meanwhile. Raises UserError when the folder cannot be written."""
    path = _path(results, name)
    with exclusive_lock(path.parent, _TURN):
        if more := asked(results, name, space)[task][known:]:
            return more
        _append(path, json.dumps([dict(assignment) for assignment in batch], separators=(",", ":")), results)
    return list(batch)


def key_of(assignment: Assignment) -> tuple[tuple[str, object], ...]:
    """What tells an assignment from others; 1 and 1.0 and True are three labels."""
    return tuple((axis, (type(label).__name__, label)) for axis, label in sorted(assignment.items()))


def _lines(path: Path) -> list[bytes]:
    """The whole lines; one without its end is being written, or was when its writer was killed."""
    try:
        return [line for line in path.read_bytes().split(b"\n")[:-1] if line]
    except FileNotFoundError:
        return []


def _batch(line: bytes) -> list[Assignment] | None:
    """None for a damaged line."""
    try:
        batch = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(batch, list) and all(isinstance(item, Mapping) and "task" in item for item in batch)
    return batch if whole else None


def _from_manifest(
    results: Path, name: str, space: Space, batches: Sequence[Sequence[Assignment] | None]
) -> list[Assignment]:
    """What the manifest has that no whole line asks for."""
    known = {key_of(assignment) for batch in batches if batch for assignment in batch}
    manifest = read_manifest(results, name)
    found: dict[object, Assignment] = {}
    for entry in manifest.entries if manifest else ():
        if not entry.is_baseline:
            with suppress(UserError, KeyError, ValueError):
                assignment = space.assignment(entry.labels)
                found.setdefault(key_of(assignment), assignment)
    return [assignment for key, assignment in found.items() if key not in known]


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
    return results / FOLDER / f"{underscored(name)}.jsonl"
