"""A design-space exploration harness for FP4 and microscaling quantized training.

The names of ``PUBLIC`` can be imported from here (``from dse import RECIPES, quantize_``). Each is imported from its
module on first use, so that ``import dse`` itself loads neither torch nor anything else that is large. How the package
is built: ``docs/architecture.md``; its Python interface by examples: ``docs/python.md``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from dse.checkout import TasksFinder
from dse.former_names import FormerNames
from dse.version import __version__ as __version__

if TYPE_CHECKING:
    from dse.errors import UserError as UserError
    from dse.nn.coverage import coverage as coverage
    from dse.nn.quantize import after_step as after_step
    from dse.nn.quantize import before_step as before_step
    from dse.nn.quantize import quantize_ as quantize_
    from dse.nn.quantize import set_clock as set_clock
    from dse.numerics.formats import Format as Format
    from dse.numerics.recipe import override as override
    from dse.numerics.recipe_fields import Recipe as Recipe
    from dse.numerics.registry import FORMATS as FORMATS
    from dse.plan.plan import make_plan as make_plan
    from dse.plan.plan_text import plan_text as plan_text
    from dse.plugins import load_plugins as load_plugins
    from dse.post.quantize_post import quantize_post as quantize_post
    from dse.recipes import RECIPES as RECIPES
    from dse.report import write_report as write_report
    from dse.report.frame import Results as Results
    from dse.results.record import Record as Record
    from dse.results.store import Store as Store
    from dse.run.engine import run_sweep as run_sweep
    from dse.sweep.cells.cell import Cell as Cell
    from dse.sweep.cells.expansion import expand as expand
    from dse.sweep.cells.expansion import load_sweep as load_sweep
    from dse.sweep.cells.sweep import Sweep as Sweep
    from dse.sweep.from_python import make_sweep as make_sweep
    from dse.tasks import TASKS as TASKS
    from dse.tasks.base import Task as Task
    from dse.tasks.base import Training as Training
    from dse.train.loop import run_trial as run_trial
    from dse.train.options import RunOptions as RunOptions
    from dse.train.saved_weights import load_model as load_model
    from dse.trial import Trial as Trial
    from dse.trial import make_task as make_task
    from dse.trial import make_trial as make_trial

PUBLIC = {
    # numerics: how a linear layer computes
    "Format": "dse.numerics.formats",
    "FORMATS": "dse.numerics.registry",
    "Recipe": "dse.numerics.recipe_fields",
    "RECIPES": "dse.recipes",
    "override": "dse.numerics.recipe",
    "load_plugins": "dse.plugins",
    # a model of one's own
    "quantize_": "dse.nn.quantize",
    "set_clock": "dse.nn.quantize",
    "before_step": "dse.nn.quantize",
    "after_step": "dse.nn.quantize",
    "coverage": "dse.nn.coverage",
    "quantize_post": "dse.post.quantize_post",
    # one trial
    "Task": "dse.tasks.base",
    "TASKS": "dse.tasks",
    "make_task": "dse.trial",
    "make_trial": "dse.trial",
    "Training": "dse.tasks.base",
    "Trial": "dse.trial",
    "run_trial": "dse.train.loop",
    "Record": "dse.results.record",
    "load_model": "dse.train.saved_weights",
    # a sweep
    "make_sweep": "dse.sweep.from_python",
    "load_sweep": "dse.sweep.cells.expansion",
    "expand": "dse.sweep.cells.expansion",
    "Sweep": "dse.sweep.cells.sweep",
    "Cell": "dse.sweep.cells.cell",
    "make_plan": "dse.plan.plan",
    "plan_text": "dse.plan.plan_text",
    "run_sweep": "dse.run.engine",
    "RunOptions": "dse.train.options",
    # its results
    "Store": "dse.results.store",
    "Results": "dse.report.frame",
    "write_report": "dse.report",
    "UserError": "dse.errors",
}
"""Public name -> the module that it is imported from on first use."""

if not TYPE_CHECKING:
    __all__ = [*PUBLIC]

    def __getattr__(name: str) -> object:
        """A public name, imported now and kept."""
        if name not in PUBLIC:
            from dse.errors import nearest

            raise AttributeError(f"module 'dse' has no attribute {name!r}{nearest(name, PUBLIC)}")
        value = getattr(import_module(PUBLIC[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})


class _Package(ModuleType):
    """The type of this module. A submodule, a former name such as ``dse.coverage``, never hides a public name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
sys.meta_path[:0] = [TasksFinder(), FormerNames()]
