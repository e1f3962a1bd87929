"""Identity of a sweep in a results folder: the name of its files there (manifest, search journal).

Several sweep files may have the same name. A file that is edited keeps its identity, because its path is known; so does
a file that is moved, or has another path on another machine, because its text is known. The identity of the first sweep
of a name is the name; further ones add a hash of their path, so that no two share a search journal or a manifest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.text import short_hash, slug, sweep_name

if TYPE_CHECKING:
    from dse.sweep import Sweep

FOLDER = "sweeps"


@dataclass(frozen=True)
class KnownSweep:
    """A manifest without its cells. ``paths``: where the sweep's file has been seen, resolved; ``path``: as the user
    gave it, all that older manifests have."""

    identity: str
    name: str
    text: str
    path: str
    paths: tuple[str, ...]

    @classmethod
    def of(cls, identity: str, data: dict[str, Any]) -> KnownSweep:
        return cls(identity, data["name"], data["text"], data.get("path", ""), tuple(data.get("paths", ())))


def identity(sweep: Sweep, results: Path) -> str:
    """The name of a sweep's files in a results folder: the one it has, or would get. Writes nothing."""
    return find_identity(sweep, results)[0]


def find_identity(sweep: Sweep, results: Path) -> tuple[str, tuple[str, ...]]:
    """The identity, and the resolved paths under which the file has been seen there; none for a new sweep."""
    found = known_sweeps(results, sweep.name, _former_name(sweep))
    own = resolved_path(sweep.path)
    for fits in (_by_path, _from_before, _by_text):
        for one in found:
            if fits(one, sweep, own):
                return one.identity, one.paths
    plain = slug(sweep.name)
    if plain.casefold() not in {one.identity.casefold() for one in found}:
        return plain, ()
    return f"{plain}-{path_hash(sweep)}", ()


def known_sweeps(results: Path, *names: str) -> list[KnownSweep]:
    """The sweeps in a results folder whose identity may belong to one of these names."""
    prefixes = tuple(slug(name).casefold() for name in names)  # some file systems take 'A' for 'a'
    paths = [path for path in (results / FOLDER).glob("*.json") if path.name.casefold().startswith(prefixes)]
    return [one for path in sorted(paths) if (one := _read(path)) is not None]


def path_hash(sweep: Sweep) -> str:
    """A hash of a sweep's name and the path of its file."""
    return short_hash(f"{sweep.name}\n{resolved_path(sweep.path)}")


def resolved_path(path: Path) -> str:
    """An absolute path without links, as text."""
    return str(Path(path).resolve())


def _by_path(one: KnownSweep, sweep: Sweep, own: str) -> bool:
    return one.name == sweep.name and own in one.paths


def _from_before(one: KnownSweep, sweep: Sweep, own: str) -> bool:
    """Whether an older manifest fits, whose path may have been relative to any folder."""
    if one.paths or one.name not in (sweep.name, _former_name(sweep)):
        return False
    named = Path(one.path).parts
    return one.text == sweep.text or (bool(named) and Path(own).parts[-len(named) :] == named)


def _by_text(one: KnownSweep, sweep: Sweep, own: str) -> bool:
    """Whether it is the same file in another place, moved or on another machine. A copy beside the file is another
    sweep, because either may be edited."""
    return one.name == sweep.name and one.text == sweep.text and not any(Path(path).exists() for path in one.paths)


def _former_name(sweep: Sweep) -> str:
    """The name that older versions gave a file without a ``name``: they kept ASCII letters only."""
    stem = Path(sweep.path).stem
    return sweep_name(stem, ascii_only=True) if sweep.name == sweep_name(stem) else sweep.name


def _read(path: Path) -> KnownSweep | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return _parsed(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _parsed(path: Path, *_: int) -> KnownSweep | None:
    """None where a manifest cannot be read; kept for as long as the file does not change, because it may be large."""
    try:
        return KnownSweep.of(path.stem, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


__all__ = ["FOLDER", "KnownSweep", "find_identity", "identity", "known_sweeps", "path_hash", "resolved_path"]
