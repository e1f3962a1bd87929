"""User-defined tasks, named by the import path of their class: `my_module:MyTask`, or `./my_task.py:MyTask`.

The path, without `./`, is the task's name in a trial's identity and in reports. When a change of the file changes
results, the class's `version` has to rise, as for the tasks here.
"""

from __future__ import annotations

import copyreg
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from dse.errors import UserError, nearest
from dse.tasks.base import Task

_FOUND: dict[str, type[Task[Any]]] = {}
"""Classes by the names they were asked for; a sweep's file says where to look for those it names."""

_FOLDERS: dict[type[Task[Any]], Path] = {}
"""Where the path of a class begins: another process finds it from there."""


class Registry(dict[str, type[Task[Any]]]):
    """The tasks by name; a name with a colon is an import path, and looked up when it is asked for."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or is_path(name)

    def __missing__(self, name: str) -> type[Task[Any]]:
        if not is_path(name):
            raise KeyError(name)
        return _FOUND.get(name) or find(name)


def is_path(name: object) -> bool:
    """Whether a task's name says where its class is."""
    return isinstance(name, str) and ":" in name


def is_found(name: str) -> bool:
    """Whether this program has imported the task at a path already, because a sweep named it."""
    return name in _FOUND


def find(name: str, folder: Path | None = None) -> type[Task[Any]]:
    """The task class at an import path; files and modules are looked for in `folder` and the working directory.

    Raises `UserError`, one line, when there is none, or when the class is no complete task.
    """
    target, _, attribute = name.rpartition(":")
    folders = [place.resolve() for place in dict.fromkeys((folder or Path(), Path()))]
    module, home = _file(name, target, folders) if target.endswith(".py") else _module(name, target, folders)
    cls = getattr(module, attribute, None)
    if cls is None:
        known = [n for n, x in vars(module).items() if inspect.isclass(x) and issubclass(x, Task) and x is not Task]
        raise UserError(f"task {name!r}: {target} has no {attribute!r}{nearest(attribute, known)}")
    _check(name, cls)
    cls.name = f"{os.path.normpath(target) if target.endswith('.py') else target}:{attribute}"
    _FOLDERS[cls] = home
    _FOUND[name] = _FOUND[cls.name] = cls
    copyreg.pickle(cls, _reduced)
    return cls  # type: ignore[no-any-return]


def revive(name: str, folder: str, values: dict[str, Any]) -> Task[Any]:
    """A task in another process, from where its class was in the first."""
    return find(name, Path(folder))(**values)


def _reduced(task: Task[Any]) -> tuple[Any, ...]:
    cls = type(task)
    return revive, (cls.name, str(_FOLDERS[cls]), {f.name: getattr(task, f.name) for f in fields(cls)})


def _file(name: str, target: str, folders: list[Path]) -> tuple[ModuleType, Path]:
    for folder in folders:
        path = (folder / Path(os.path.expandvars(target)).expanduser()).resolve()
        if path.is_file():
            break
    else:
        looked = ", ".join(dict.fromkeys(str(folder / target) for folder in folders))
        raise UserError(f"task {name!r}: no file {target!r} (looked for {looked})")
    known = f"own task {os.path.normpath(target)} at {path}"  # a class has one name: one module for each
    if known in sys.modules:
        return sys.modules[known], folder
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module  # dataclasses look their module up
    with _importing(name, target, path.parent):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[known]
            raise
    return module, folder


def _module(name: str, target: str, folders: list[Path]) -> tuple[ModuleType, Path]:
    with _importing(name, target, *folders):
        module = importlib.import_module(target)
    if module.__file__ is None:
        return module, folders[0]
    path = Path(module.__file__).resolve()
    depth = target.count(".") + (path.name == "__init__.py")
    return module, path.parents[depth]


@contextmanager
def _importing(name: str, target: str, *folders: Path) -> Iterator[None]:
    """Imports find what lies beside the file; what goes wrong in it is one line for the user."""
    extra = [str(folder) for folder in folders]
    sys.path[:0] = extra
    try:
        yield
    except Exception as error:  # a user's module may raise anything
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        line = f", line {where.tb_lineno}" if where is not None and target.endswith(".py") else ""
        raise UserError(f"task {name!r}: {target}{line}: {type(error).__name__}: {error}") from error
    finally:
        for folder in extra:
            sys.path.remove(folder)


def _check(name: str, cls: Any) -> None:
    if not (inspect.isclass(cls) and issubclass(cls, Task)):
        raise UserError(f"task {name!r} is no class derived from tasks.Task")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise UserError(f"task {name!r} does not define {', '.join(missing)}")
    if not isinstance(getattr(cls, "version", None), int) or not isinstance(getattr(cls, "metric", None), str):
        raise UserError(
            f"task {name!r} needs a whole number `version` and the name of its `metric`, as class variables"
        )
    own = vars(cls).get("__dataclass_params__")  # not a parent's: the decorator may have been forgotten
    frozen = own is not None and own.frozen
    if not frozen or any(f.default is MISSING and f.default_factory is MISSING for f in fields(cls)):
        raise UserError(f"task {name!r} must be a frozen dataclass whose fields, its options, all have defaults")
