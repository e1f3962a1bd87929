"""Finds ``dse.tasks``: in a checkout it is the folder ``tasks`` beside this package, after installation a subpackage.

``import dse`` imports this module, so it does without ``importlib.abc``, which takes longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

INSIDE = Path(__file__).with_name("tasks")
BESIDE = Path(__file__).resolve().parents[1] / "tasks"


class TasksFinder:
    """Import finder for ``sys.meta_path``: the folder ``tasks`` of a checkout is the package ``dse.tasks``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "dse.tasks" or INSIDE.is_dir():
            return None
        return spec_from_file_location(fullname, BESIDE / "__init__.py", submodule_search_locations=[str(BESIDE)])
