"""Included files of a sweep: each is read once, and precedes the files that include it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dse.errors import UserError, nearest
from dse.plugins import load_plugins
from dse.sweep.language.source import Location, YamlSource, read_source
from dse.sweep.read.schema import SweepFile, parse
from dse.sweep.read.shorthand import expand_shorthands

_MOST = 100


class IncludedFile(NamedTuple):
    """A file of a sweep: its text with line numbers, and its keys."""

    source: YamlSource
    keys: SweepFile


def read_files(path: Path) -> list[IncludedFile]:
    """The files that make a sweep: an included one before the file that includes it, the file itself last.

    Raises UserError for a file that is not there or does not parse, and for files that include each other.
    """
    found: dict[Path, IncludedFile] = {}
    _read(path, [], found)
    return list(found.values())


def text_of_files(files: Sequence[IncludedFile]) -> str:
    """The text of a sweep: its file's own, then those of what it includes, with their paths from there."""
    *others, main = files
    folder = main.source.path.parent
    parts = [f"\n# included: {os.path.relpath(f.source.path, folder)}\n{f.source.text}" for f in others]
    return "".join([main.source.text, *parts])


def _read(path: Path, above: list[Path], found: dict[Path, IncludedFile]) -> None:
    source = read_source(path)
    _load_plugins(source)
    source = expand_shorthands(source)
    file = IncludedFile(source, parse(source))
    own = _key(path)
    for index, name in enumerate(file.keys.include):
        at = Location(source, ("include", index) if isinstance(source.data["include"], list) else ("include",))
        target = _target(at, path, name)
        chain = [*above, path]
        if _key(target) in map(_key, chain):
            shown = " -> ".join(map(str, [*chain, target]))
            raise at.error(f"include: the files include each other: {shown}")
        if len(found) + len(chain) > _MOST:
            raise at.error(f"include: more than {_MOST} files")
        if _key(target) not in found:
            _read(target, chain, found)
    found[own] = file


def _load_plugins(source: YamlSource) -> None:
    """Loads the plugins that a file names: before anything else of it is read, since all of it may use them."""
    for key in ("plugins", "plugin"):
        names = source.data.get(key) if isinstance(source.data, dict) else None
        for index, name in enumerate(names if isinstance(names, list) else [names] if isinstance(names, str) else []):
            at = Location(source, (key, index) if isinstance(names, list) else (key,))
            if isinstance(name, str):
                try:
                    load_plugins([name], source.path.parent)
                except UserError as error:
                    raise at.error(error) from None


def _target(at: Location, path: Path, name: str) -> Path:
    """The included file's path, from the folder of the including one."""
    written, name = name, expand_variables(at, name)
    target = Path(os.path.normpath(path.parent / name)) if name else path.parent
    try:
        if target.is_file():
            return target
    except (OSError, ValueError):  # a name too long, or with a character that no file has
        raise at.error(f"include: {name!r} cannot be read") from None
    name = written
    near = [os.path.relpath(p, path.parent) for p in _neighbours(target) if _key(p) != _key(path)]
    raise at.error(f"include: {name!r} is no file{nearest(name, near)}")


def expand_variables(at: Location, name: str) -> str:
    """A path with ``~`` and ``$VARIABLE`` replaced. Raises UserError (file:line) for a variable that is not set."""
    found = os.path.expanduser(os.path.expandvars(name))  # noqa: PTH111 - text, which may be no path at all
    if unset := re.search(r"\$(\w+|\{\w+\})", found):
        raise at.error(f"include: {name!r}: the environment variable {unset[1].strip('{}')} is not set")
    return found


def _neighbours(target: Path) -> list[Path]:
    try:
        return sorted(target.parent.glob("*.y*ml"))[:1000]
    except (OSError, ValueError):
        return []


def _key(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise UserError(f"{path}: cannot be read") from None
