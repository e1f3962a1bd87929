"""Finds ``dse.tasks``, which lies beside this package in a checkout, and keeps its former name ``tasks`` importable.

An installed distribution has the folder inside of ``dse`` and nothing else at the top level. There, and in a checkout,
``tasks`` and ``tasks.base`` are other names of ``dse.tasks`` and ``dse.tasks.base``, the same module objects, unless
there is a ``tasks`` of the user's own on the path: that one wins.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

NAME, FORMER = "dse.tasks", "tasks"
_INSTALLED = Path(__file__).with_name("tasks")
_BESIDE = Path(__file__).resolve().parents[1] / "tasks"


class _SameModule(Loader):
    """Gives the module ``dse.NAME`` for NAME."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"dse.{spec.name}")
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has just put the other name's there


class TasksFinder(MetaPathFinder):
    """Finds ``dse.tasks`` in a checkout, and modules by the former name ``tasks``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == NAME and not _INSTALLED.is_dir():
            return spec_from_file_location(NAME, _BESIDE / "__init__.py", submodule_search_locations=[str(_BESIDE)])
        if fullname == FORMER and _is_users_own(PathFinder.find_spec(FORMER)):
            return None
        if fullname == FORMER or (fullname.startswith(f"{FORMER}.") and sys.modules.get(FORMER) is _ours()):
            return ModuleSpec(fullname, _SameModule(), is_package=False)
        return None


def _ours() -> ModuleType | None:
    return sys.modules.get(NAME)


def _is_users_own(spec: ModuleSpec | None) -> bool:
    """Whether another ``tasks`` than the checkout's is on the path."""
    if spec is None:
        return False
    return spec.origin is None or Path(spec.origin).resolve() != _BESIDE / "__init__.py"


def install() -> None:
    """Puts the finder before all others, once in a process."""
    if not any(type(finder).__name__ == TasksFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, TasksFinder())
