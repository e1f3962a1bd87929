"""Keeps documented modules importable by the names they had before: each is another name of the very same module.

``tasks`` gives way to a module or package of that name of the user's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from dse.checkout import BESIDE

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
"""Former name of a module or package -> today's. What lies in a package moved with it."""


def todays_name(name: str) -> str | None:
    """The name today of a module by its former name; None of any other name."""
    prefix, rest = name, ""
    while prefix:
        if prefix in FORMER:
            return FORMER[prefix] + rest
        prefix, _, last = prefix.rpartition(".")
        rest = f".{last}{rest}"
    return None


class _SameModule(Loader):
    """Loads a former name by importing today's."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        name = todays_name(spec.name)
        assert name is not None
        module = import_module(name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has just put the former name's there


class FormerNames(MetaPathFinder):
    """Finds modules by former names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if todays_name(fullname) is None or (fullname.partition(".")[0] == "tasks" and _is_the_users()):
            return None
        return ModuleSpec(fullname, _SameModule())


def _is_the_users() -> bool:
    """Whether another ``tasks`` than the checkout's folder is on the path."""
    spec = PathFinder.find_spec("tasks")
    if spec is None:
        return False
    return spec.origin is None or Path(spec.origin).resolve() != BESIDE / "__init__.py"
