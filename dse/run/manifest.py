"""Which trials belong to which sweep, kept beside the results, so that projections need no YAML file."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError

if TYPE_CHECKING:
    from dse.sweep import Cell, Label, Sweep


@dataclass(frozen=True)
class Entry:
    """A cell of a sweep without its trial: identity, baseline and labels by axis."""

    uid: str
    baseline_uid: str
    config: str
    is_baseline: bool
    labels: dict[str, Label]

    @classmethod
    def of(cls, cell: Cell) -> Entry:
        return cls(cell.uid, cell.baseline_uid, cell.config, cell.is_baseline, dict(cell.labels))


@dataclass(frozen=True)
class Manifest:
    """A sweep as it was last run: its name, the YAML as read, its cells, and the file as it was named."""

    name: str
    text: str
    entries: tuple[Entry, ...]
    path: str = ""

    @classmethod
    def of(cls, sweep: Sweep) -> Manifest:
        return cls(sweep.name, sweep.text, tuple(map(Entry.of, sweep.cells)), str(sweep.path))

    def write(self, results: Path) -> None:
        """Writes ``sweeps/NAME.json`` into the results folder, in one step."""
        path = results / "sweeps" / _file(self.name)
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{time.time_ns()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(asdict(self), separators=(",", ":")))
            os.replace(temporary, path)  # noqa: PTH105
        except OSError as error:
            raise UserError(f"results folder {results} is not writable: {error.strerror or error}") from None


def read_manifests(results: Path, name: str | None = None) -> Sequence[Manifest]:
    """The sweeps that were ever run into a results folder, or the one of a name; damaged files are left out."""
    found = []
    for path in sorted((results / "sweeps").glob(_file(name) if name else "*.json")):
        try:
            data = json.loads(path.read_text())
            entries = tuple(Entry(**entry) for entry in data["entries"])
            found.append(Manifest(data["name"], data["text"], entries, data.get("path", "")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _file(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name) + ".json"
