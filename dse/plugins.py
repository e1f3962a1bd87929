"""Plugins: Python files and modules of a user's own that add techniques and recipes to the registries.

A sweep names them (``plugins: [./mine.py]``), and so does ``--plugin`` of commands about numerics. When it is imported,
a plugin writes its entries into the registries, as the files of this package do::

    STATISTICS["rms"] = Rms
    RECIPES["mine"] = replace(override(RECIPES["nvfp4"], "forward.statistic", "rms"), name="mine")

An object of a plugin's technique that is sent to another process loads the plugin there, from the same path.
"""

from __future__ import annotations

import copyreg
import os
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from dse.errors import UserError
from dse.numerics.recipe import Recipe
from dse.numerics.registry import FAMILIES, words
from dse.recipes import RECIPES
from dse.tasks.user_module import FILE, user_module

GROUP = "dse.plugins"
"""Group of the entry points by which installed packages offer plugins."""

_LOADED: dict[tuple[str, Path], tuple[str, ...]] = {}
"""(plugin, where its path begins) -> what it has added, such as 'statistic rms'."""

_ORIGINS: dict[type, tuple[str, Path]] = {}
"""Techniques of plugins -> the plugin, and the folder from which its path leads to it."""


def load_plugins(names: Iterable[str], folder: Path | None = None) -> tuple[str, ...]:
    """Loads plugins, each once in a process; returns what they have added, such as 'statistic rms', 'recipe mine'.

    A name is a file (``./mine.py``, from ``folder`` or the working directory), an entry point of the group
    ``dse.plugins``, or a module that can be imported. Raises UserError, one line, for one that is not there or fails,
    for an entry that takes the name of another one, and for one that is no technique of its family or no recipe; the
    registries are then as they were.
    """
    return tuple(added for name in names for added in _load(name, folder or Path()))


def _load(name: str, folder: Path) -> tuple[str, ...]:
    folders = [place.resolve() for place in dict.fromkeys((folder, Path()))]
    if known := next((_LOADED[name, place] for place in folders if (name, place) in _LOADED), None):
        return known
    what = f"plugin {name!r}"
    if not name:
        raise UserError(f"{what}: write a file, ./mine.py, or the name of a module")
    with _watched(what) as added:
        _, home = user_module(what, _target(name), folders)
    for cls in (entry for kind, _, entry in added if kind != "recipe"):
        _ORIGINS[cls] = (name, home)
        copyreg.pickle(cls, _reduced)
    _LOADED[name, home] = _LOADED[name, folders[0]] = tuple(f"{kind} {entry_name}" for kind, entry_name, _ in added)
    return _LOADED[name, home]


def _target(name: str) -> str:
    """The file or module behind a name."""
    if name.endswith(".py"):
        return name
    found: tuple[EntryPoint, ...] = tuple(entry_points(group=GROUP, name=name))
    return found[0].module if found else name


@contextmanager
def _watched(what: str) -> Iterator[list[tuple[str, str, Any]]]:
    """Yields a list that afterwards holds what was added to the registries: kind, name and entry."""
    kinds = {words(base): cast("MutableMapping[str, Any]", family) for base, family in FAMILIES.items()}
    kinds["recipe"] = RECIPES
    before = {kind: dict(registry) for kind, registry in kinds.items()}
    modules = set(sys.modules)
    added: list[tuple[str, str, Any]] = []
    try:
        yield added
        for kind, registry in kinds.items():
            if taken := [n for n, entry in before[kind].items() if registry.get(n) is not entry]:
                raise UserError(f"{what}: there is a {kind} {taken[0]!r} already; give yours another name")
            added += [(kind, n, entry) for n, entry in registry.items() if n not in before[kind]]
        for kind, entry_name, entry in added:
            _check(what, kind, entry_name, entry)
    except BaseException:
        for kind, registry in kinds.items():
            registry.clear()
            registry.update(before[kind])
        for module in {*sys.modules} - modules:  # a second try executes it again
            if module.startswith(FILE):
                del sys.modules[module]
        raise


def _check(what: str, kind: str, name: str, entry: Any) -> None:
    if kind == "recipe":
        if not isinstance(entry, Recipe):
            raise UserError(f"{what}: recipe {name!r} is no Recipe, but {type(entry).__name__}")
        if entry.name != name:
            raise UserError(f"{what}: recipe {name!r} calls itself {entry.name!r}; set its field name")
        return
    base = next(base for base in FAMILIES if words(base) == kind)
    own = vars(entry).get("__dataclass_params__") if isinstance(entry, type) else None  # not a parent's
    if not (isinstance(entry, type) and issubclass(entry, base) and own is not None and own.frozen):
        raise UserError(f"{what}: {kind} {name!r} must be a frozen dataclass derived from {base.__name__}")


def revive(name: str, folder: str, base: str, entry: str, values: dict[str, Any]) -> Any:
    """A technique in another process: loads the plugin from where it was in the first."""
    load_plugins([name], Path(folder))
    family = next(family for cls, family in FAMILIES.items() if cls.__name__ == base)
    return family[entry](**values)


def _reduced(technique: Any) -> tuple[Any, ...]:
    cls = type(technique)
    base = next(base for base in FAMILIES if issubclass(cls, base))
    entry = next(n for n, own in FAMILIES[base].items() if own is cls)
    name, folder = _ORIGINS[cls]
    values = {f.name: getattr(technique, f.name) for f in fields(cls)}
    return revive, (name, os.fspath(folder), base.__name__, entry, values)


__all__ = ["GROUP", "load_plugins", "revive"]
