"""Which trials belong to which sweep, kept beside the results, so that projections need no YAML file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.files import replacing, unwritable
from dse.results.identity import FOLDER, known, lookup, resolved
from dse.results.lock import turn
from dse.text import slug

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
    """A sweep as it was last run: its name, the YAML as read, its cells, and the file as it was named.

    ``identity``: the name of its files in the results folder; ``paths``: where its file has been seen, resolved;
    ``options``: of the command line, those that were given and that running its trials needs, by their names.
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
        """Of a sweep with its cells, in a results folder. ``options``: those of the last run without any."""
        own, paths = lookup(sweep, results)
        given = dict(options) if options is not None else _options(results, own)
        all_paths = tuple(dict.fromkeys([*paths, resolved(sweep.path)]))
        return cls(sweep.name, sweep.text, tuple(map(Entry.of, sweep.cells)), str(sweep.path), own, all_paths, given)

    def grown(self, sweep: Sweep) -> Manifest:
        """The same with the cells that the sweep has by now."""
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
                draft.write_text(json.dumps(asdict(self), separators=(",", ":")), encoding="utf-8")
        except OSError as error:
            raise unwritable(results, error) from None


def settle(sweep: Sweep, results: Path, options: Mapping[str, str] | None = None) -> str:
    """The identity of a sweep, written down when it is new, so that no other sweep gets it; with the ``options`` that
    it is run with, where they are given.

    A folder that cannot be written is left alone: it is fine to look at results that one may not change.
    """
    with suppress(UserError), turn(results / FOLDER, ".turn"):
        own, paths = lookup(sweep, results)
        before = read_manifest(results, own)
        if not paths or before is None:  # its cells follow when it runs
            entries = before.entries if before else ()
            replace(Manifest.of(sweep, results, options), entries=entries).write(results)
        elif options is not None and dict(options) != dict(before.options):
            replace(before, options=dict(options)).write(results)
        return own
    return lookup(sweep, results)[0]


def read_manifests(results: Path, name: str | None = None) -> Sequence[Manifest]:
    """The sweeps that were ever run into a results folder, or those of a name; damaged files are left out."""
    found = []
    paths = [results / FOLDER / f"{one.identity}.json" for one in known(results, name)] if name else None
    for path in sorted((results / FOLDER).glob("*.json")) if paths is None else paths:
        if (own := _read(path)) is not None and name in (None, own.name):
            found.append(own)
    return found


def unreadable(results: Path) -> list[Path]:
    """The manifests that are damaged; the next run of their sweep writes them anew."""
    return [path for path in sorted((results / FOLDER).glob("*.json")) if _read(path) is None]


def read_manifest(results: Path, identity: str) -> Manifest | None:
    """The manifest of an identity; None where there is none that can be read."""
    return _read(results / FOLDER / f"{identity}.json")


def _read(path: Path) -> Manifest | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(Entry(**entry) for entry in data["entries"])
        more = tuple(data.get("paths", ())), dict(data.get("options", {}))
        return Manifest(data["name"], data["text"], entries, data.get("path", ""), path.stem, *more)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _options(results: Path, identity: str) -> Mapping[str, str]:
    own = read_manifest(results, identity)
    return own.options if own else {}
