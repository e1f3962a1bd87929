"""Finds ``dse.tasks``, which lies beside this package in a checkout; an installed distribution has it inside."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

INSIDE = Path(__file__).with_name("tasks")
BESIDE = Path(__file__).resolve().parents[1] / "tasks"


class TasksFinder(MetaPathFinder):
    """Finds the folder ``tasks`` of a checkout as ``dse.tasks``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "dse.tasks" or INSIDE.is_dir():
            return None
        return spec_from_file_location(fullname, BESIDE / "__init__.py", submodule_search_locations=[str(BESIDE)])
