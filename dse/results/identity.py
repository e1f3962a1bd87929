"""Which sweep is which in a results folder: the name of its files there (manifest, search journal).

Sweep files may share a name. A file keeps its identity when it is edited: it is known by its path; and when it is
moved, or seen under another path on another machine: it is known by its text then. The first sweep of a name is called
by it, further ones by the name and a hash of their path, so that two never share a search journal or a manifest.
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
class Known:
    """A manifest without its cells. ``paths``: where the file has been seen, resolved; empty in manifests from before,
    which have the file ``as_named`` only."""

    identity: str
    name: str
    text: str
    as_named: str
    paths: tuple[str, ...]

    @classmethod
    def of(cls, identity: str, data: dict[str, Any]) -> Known:
        return cls(identity, data["name"], data["text"], data.get("path", ""), tuple(data.get("paths", ())))


def identity(sweep: Sweep, results: Path) -> str:
    """The name of a sweep's files in a results folder: the one that it has, or else would get. Nothing is written."""
    return lookup(sweep, results)[0]


def lookup(sweep: Sweep, results: Path) -> tuple[str, tuple[str, ...]]:
    """The identity, and the resolved paths under which the file has been seen there; none for a new sweep."""
    found = known(results, sweep.name, _former_name(sweep))
    own = resolved(sweep.path)
    for fits in (_by_path, _from_before, _by_text):
        for one in found:
            if fits(one, sweep, own):
                return one.identity, one.paths
    plain = slug(sweep.name)
    if plain.casefold() not in {one.identity.casefold() for one in found}:
        return plain, ()
    return f"{plain}-{digest(sweep)}", ()


def known(results: Path, *names: str) -> list[Known]:
    """The sweeps in a results folder that may be called so."""
    prefixes = tuple(slug(name).casefold() for name in names)  # some file systems take 'A' for 'a'
    paths = [path for path in (results / FOLDER).glob("*.json") if path.name.casefold().startswith(prefixes)]
    return [one for path in sorted(paths) if (one := _read(path)) is not None]


def digest(sweep: Sweep) -> str:
    """Tells sweeps of one name apart: a hash of the name and of where the file is."""
    return short_hash(f"{sweep.name}\n{resolved(sweep.path)}")


def resolved(path: Path) -> str:
    return str(Path(path).resolve())


def _by_path(one: Known, sweep: Sweep, own: str) -> bool:
    return one.name == sweep.name and own in one.paths


def _from_before(one: Known, sweep: Sweep, own: str) -> bool:
    """A manifest that does not say where its file is: its path may have been relative to any folder."""
    if one.paths or one.name not in (sweep.name, _former_name(sweep)):
        return False
    named = Path(one.as_named).parts
    return one.text == sweep.text or (bool(named) and Path(own).parts[-len(named) :] == named)


def _by_text(one: Known, sweep: Sweep, own: str) -> bool:
    """The same file elsewhere: moved, or on another machine. A copy beside the file is a sweep of its own, because
    either may be edited."""
    return one.name == sweep.name and one.text == sweep.text and not any(Path(path).exists() for path in one.paths)


def _former_name(sweep: Sweep) -> str:
    """What a file without a ``name`` was called before names kept letters outside ASCII."""
    stem = Path(sweep.path).stem
    return sweep_name(stem, ascii_only=True) if sweep.name == sweep_name(stem) else sweep.name


def _read(path: Path) -> Known | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return _parsed(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _parsed(path: Path, *_: int) -> Known | None:
    """None where a manifest cannot be read; kept for as long as the file does not change, because it may be large."""
    try:
        return Known.of(path.stem, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


__all__ = ["FOLDER", "Known", "digest", "identity", "known", "lookup", "resolved"]
