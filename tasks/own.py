"""User-defined tasks, named by the import path of their class: `my_module:MyTask`, or `./my_task.py:MyTask`.

The path, without `./`, is the task's name in a trial's identity and in reports. When a change of the file changes
results, the class's `version` has to rise, as for the tasks here.
"""

from __future__ import annotations

import copyreg
import inspect
import os
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from dse.errors import UnknownName, UserError, nearest
from dse.tasks.base import Task
from dse.tasks.user_module import user_module

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
            raise UnknownName(f"unknown task {name!r}{nearest(name, self)}")
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
    module, home = user_module(f"task {name!r}", target, folders)
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
