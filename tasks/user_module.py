"""Imports a user's own Python code: a file by its path, or a module by its name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from pkgutil import iter_modules
from traceback import extract_tb
from types import ModuleType

from dse.errors import UserError

FILE = "own code "
"""Begins the module names of a user's files."""
_NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")


def user_module(what: str, target: str, folders: Sequence[Path]) -> tuple[ModuleType, Path]:
    """The module of a file (``./mine.py``) or of a module's name, and the folder from which ``target`` leads to it.

    Files and modules are looked for in ``folders``, in their order; what a file imports from beside itself is found. A
    file is executed once in a process. Raises UserError, one line that begins with ``what``, for a file that is not
    there, and for whatever the code raises.
    """
    return _file(what, target, folders) if target.endswith(".py") else _module(what, target, folders)


def _file(what: str, target: str, folders: Sequence[Path]) -> tuple[ModuleType, Path]:
    for folder in folders:
        path = (folder / Path(os.path.expandvars(target)).expanduser()).resolve()
        if path.is_file():
            break
    else:
        looked = ", ".join(dict.fromkeys(str(folder / target) for folder in folders))
        raise UserError(f"{what}: no file {target!r} (looked for {looked})")
    known = f"{FILE}{os.path.normpath(target)} at {path}"  # a class has one name: one module for each
    if known in sys.modules:
        return sys.modules[known], folder
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module  # dataclasses look their module up
    with _importing(what, target, path.parent, file=path):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[known]
            raise
    return module, folder


def _module(what: str, target: str, folders: Sequence[Path]) -> tuple[ModuleType, Path]:
    with _importing(what, target, *folders):
        module = importlib.import_module(target)
    if module.__file__ is None:
        return module, folders[0]
    path = Path(module.__file__).resolve()
    depth = target.count(".") + (path.name == "__init__.py")
    return module, path.parents[depth]


@contextmanager
def _importing(what: str, target: str, *folders: Path, file: Path | None = None) -> Iterator[None]:
    """Imports find what lies beside the file; what goes wrong in it is one line for the user."""
    extra = [str(folder) for folder in folders]
    sys.path[:0] = extra
    try:
        yield
    except Exception as error:  # a user's module may raise anything
        number = None if file is None else _line(error, file)
        line = f", line {number}" if number else ""
        raise UserError(f"{what}: {target}{line}: {type(error).__name__}: {error}{_meant(error)}") from error
    finally:
        for folder in extra:
            sys.path.remove(folder)


def _line(error: Exception, file: Path) -> int | None:
    """The line of a file at which importing it went wrong: its own, wherever the call led from there."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(file)]
    return lines[-1] if lines else None


def _meant(error: Exception) -> str:
    """The nearest name where a file imports one that this package does not have, such as a registry's; else empty."""
    owner, word = "", ""
    if isinstance(error, ModuleNotFoundError):
        owner, _, word = (error.name or "").rpartition(".")
    elif isinstance(error, ImportError) and (found := _NO_NAME.search(str(error))):
        word, owner = found.groups()
    module = sys.modules.get(owner)
    if module is None or owner.split(".")[0] not in ("dse", "tasks"):
        return ""
    names = [name for name in vars(module) if not name.startswith("_")]
    names += [each.name for each in iter_modules(getattr(module, "__path__", ()))]
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


__all__ = ["FILE", "user_module"]
