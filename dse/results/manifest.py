"""Manifest of a sweep in a results folder: its text and its cells, so that reports and MLflow need no YAML file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.files import replacing, unwritable
from dse.results.identity import FOLDER, find_identity, known_sweeps, resolved_path
from dse.results.lock import exclusive_lock
from dse.sweep.language.labels import config_of
from dse.text import slug

if TYPE_CHECKING:
    from dse.sweep import Cell, Label, Sweep


@dataclass(frozen=True)
class Entry:
    """A cell of a sweep without its trial: uid, baseline and labels by axis. ``also``: further configurations that
    turned out to be this trial."""

    uid: str
    baseline_uid: str
    config: str
    is_baseline: bool
    labels: dict[str, Label]
    also: tuple[str, ...] = ()

    @classmethod
    def of(cls, cell: Cell) -> Entry:
        also = tuple(config_of(labels) for labels in cell.also)
        return cls(cell.uid, cell.baseline_uid, cell.config, cell.is_baseline, dict(cell.labels), also)

    def plain(self) -> dict[str, Any]:
        """As the manifest's file has it: without ``also`` where it is empty."""
        return {name: value for name, value in vars(self).items() if name != "also" or value}


@dataclass(frozen=True)
class Manifest:
    """A sweep as it was last run: its name, its YAML text, its cells, and the path of its file as the user gave it.

    ``identity``: the name of its files in the results folder; ``paths``: where its file has been seen, resolved;
    ``options``: the command line's options that running its trials again needs, by their names.
    """

    name: str
    text: str
    entries: tuple[Entry, ...]
    path: str = ""
    identity: str = ""
    paths: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, sweep: Sweep, results: Path, options: Mapping[str, str] | None = None) -> Manifest:
        """The manifest of a sweep with its cells. ``options``: by default those of the manifest that is there."""
        own, paths = find_identity(sweep, results)
        given = dict(options) if options is not None else _options(results, own)
        all_paths = tuple(dict.fromkeys([*paths, resolved_path(sweep.path)]))
        return cls(sweep.name, sweep.text, tuple(map(Entry.of, sweep.cells)), str(sweep.path), own, all_paths, given)

    def plain(self) -> dict[str, Any]:
        """As its file has it."""
        return {**vars(self), "entries": [entry.plain() for entry in self.entries]}

    def with_cells_of(self, sweep: Sweep) -> Manifest:
        """This manifest with the cells that the sweep has now."""
        return replace(self, entries=tuple(map(Entry.of, sweep.cells)))

    @property
    def title(self) -> str:
        """The sweep's name; followed by what tells it apart where others have the same one."""
        own, plain = self.identity or slug(self.name), slug(self.name)
        return self.name if own == plain else f"{self.name} ({own.removeprefix(plain).lstrip('-')})"

    @property
    def file(self) -> str:
        """Where the sweep's file is: as it was named, where that leads to it from here; else its whole path."""
        if Path(self.path).exists() or not self.paths:
            return self.path
        return next((path for path in self.paths if Path(path).exists()), self.path)

    def write(self, results: Path) -> None:
        """Writes ``sweeps/IDENTITY.json`` into the results folder, in one step."""
        path = results / FOLDER / f"{self.identity or slug(self.name)}.json"
        draft = path.with_name(f"{path.stem[:32]}.{os.getpid()}-{time.time_ns()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, draft, durable=False):
                draft.write_text(json.dumps(self.plain(), separators=(",", ":")), encoding="utf-8")
        except OSError as error:
            raise unwritable(results, error) from None


def register_sweep(sweep: Sweep, results: Path, options: Mapping[str, str] | None = None) -> str:
    """The identity of a sweep; the first call writes a manifest, so that no other sweep gets the same identity.

    ``options``: those of this run, if any. A folder that cannot be written stays as it is: results may be read without
    the right to change them.
    """
    with suppress(UserError), exclusive_lock(results / FOLDER, ".turn"):
        own, paths = find_identity(sweep, results)
        before = read_manifest(results, own)
        if not paths or before is None:  # its cells follow when it runs
            entries = before.entries if before else ()
            replace(Manifest.of(sweep, results, options), entries=entries).write(results)
        elif options is not None and dict(options) != dict(before.options):
            replace(before, options=dict(options)).write(results)
        return own
    return find_identity(sweep, results)[0]


def read_manifests(results: Path, name: str | None = None) -> Sequence[Manifest]:
    """The manifests in a results folder, or those of sweeps of a name; damaged files are left out."""
    found = []
    paths = [results / FOLDER / f"{one.identity}.json" for one in known_sweeps(results, name)] if name else None
    for path in sorted((results / FOLDER).glob("*.json")) if paths is None else paths:
        if (own := _read(path)) is not None and name in (None, own.name):
            found.append(own)
    return found


def damaged_manifests(results: Path) -> list[Path]:
    """Files of manifests that cannot be read; the next run of their sweep writes them again."""
    return [path for path in sorted((results / FOLDER).glob("*.json")) if _read(path) is None]


def read_manifest(results: Path, identity: str) -> Manifest | None:
    """The manifest of an identity; None where it is missing or damaged."""
    return _read(results / FOLDER / f"{identity}.json")


def _read(path: Path) -> Manifest | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(Entry(**{**entry, "also": tuple(entry.get("also", ()))}) for entry in data["entries"])
        more = tuple(data.get("paths", ())), dict(data.get("options", {}))
        return Manifest(data["name"], data["text"], entries, data.get("path", ""), path.stem, *more)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _options(results: Path, identity: str) -> Mapping[str, str]:
    own = read_manifest(results, identity)
    return own.options if own else {}
