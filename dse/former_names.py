"""Former names of documented modules: importing one gives the module of today, the same object.

If the user has a module or package ``tasks``, that name is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from dse.checkout import BESIDE

if TYPE_CHECKING:
    from importlib.abc import Loader

FORMER = {
    "dse.bypass": "dse.nn.bypass",
    "dse.coverage": "dse.nn.coverage",
    "dse.distributed": "dse.nn.distributed",
    "dse.linear": "dse.nn",
    "dse.meaning": "dse.numerics.validate",
    "dse.ops": "dse.numerics.ops",
    "dse.product": "dse.numerics.matmul",
    "dse.recipe": "dse.numerics.recipe",
    "dse.registry": "dse.numerics.registry",
    "dse.run.train": "dse.train.loop",
    "dse.select": "dse.nn.select",
    "dse.sqrt": "dse.kernels.sqrt",
    "dse.techniques": "dse.numerics.techniques",
    "dse.techniques.loss_scaling": "dse.optim.loss_scaling",
    "dse.techniques.optimizers": "dse.optim",
    "tasks": "dse.tasks",
}
"""Former name of a module or package -> its name today. Modules inside of a package keep their last names."""


def todays_name(name: str) -> str | None:
    """The name today of a module by its former name; None of any other name."""
    prefix, rest = name, ""
    while prefix:
        if prefix in FORMER:
            return FORMER[prefix] + rest
        prefix, _, last = prefix.rpartition(".")
        rest = f".{last}{rest}"
    return None


class _SameModule:
    """Loads a former name by importing today's."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        name = todays_name(spec.name)
        assert name is not None
        module = import_module(name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has just put the former name's there


class FormerNames:
    """Import finder for ``sys.meta_path``: finds modules by their former names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if todays_name(fullname) is None or (fullname.partition(".")[0] == "tasks" and _user_has_tasks()):
            return None
        return ModuleSpec(fullname, cast("Loader", _SameModule()))


def _user_has_tasks() -> bool:
    """Whether a module or package ``tasks`` other than the checkout's folder is on the path.

    A folder of that name without Python files, of data say, is none.
    """
    spec = PathFinder.find_spec("tasks")
    if spec is None:
        return False
    if spec.origin is None:
        return any(file for folder in spec.submodule_search_locations or () for file in Path(folder).glob("*.py"))
    return Path(spec.origin).resolve() != BESIDE / "__init__.py"
