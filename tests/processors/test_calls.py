"""A step in a pack makes the calls that it makes alone: the same operations, over operands of the same strides.

So no sum runs in another order because a tensor of one member is a view where that of several is a copy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dse.kernels import cpu_loops
from dse.numerics.recipe import Recipe
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.tasks import Task
from dse.trial import Trial
from tests.processors.operations import PROBED
from tests.processors.workloads import TASKS_OF_ALL_NETS, shrink

MEMBERS = 7
EXCEPT = {"embedding_dense_backward", "max_pool2d_with_indices_backward"}
"""Has all members' rows for an argument; does not add up, as windows do not overlap."""
QUICK = ("diabetes", "vit")


class Calls(TorchDispatchMode):
    """The probed operations in their order, each with the shapes and strides of one member's operands."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members, self.made = members, list[tuple[Any, ...]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if name in PROBED - EXCEPT:
            self.made.append((str(func), *map(self.look, args)))
        return func(*args, **(kwargs or {}))

    def look(self, x: Any) -> Any:
        """The axes that matter, without the members': (size, stride) of each."""
        if not isinstance(x, Tensor):
            return str(x)
        axes = list(zip(x.shape, x.stride(), strict=True))
        if axes and axes[0][0] == self.members:
            axes = axes[1:]
        elif axes and axes[0][0] % self.members == 0:  # folded into the first axis
            axes[0] = axes[0][0] // self.members, axes[0][1]
        return tuple(axis for axis in axes if axis[0] != 1)


def step(task: Task[Any], recipe: Recipe, members: int, batch: int) -> list[tuple[Any, ...]]:
    training = replace(task.training(), steps=1, batch=batch, clip=1.0)
    trials = [Trial(task, training, recipe, seed) for seed in range(members)]
    program = TrainStep(trials, task.load(), "cpu", False)
    with Calls(members) as calls, cpu_loops.switched_off():
        program.step()
    return calls.made


@pytest.mark.parametrize("batch", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in TASKS_OF_ALL_NETS]
)
def test_a_step_makes_the_calls_that_it_makes_alone(name: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    torch.set_num_threads(1)
    for recipe in ("sagebwd", "fp4_all_the_way"):  # keys without their mean; a schedule that watches gradients
        alone = step(TASKS_OF_ALL_NETS[name], RECIPES[recipe], 1, batch)
        together = step(TASKS_OF_ALL_NETS[name], RECIPES[recipe], MEMBERS, batch)
        assert len(alone) == len(together) > 5
        assert [pair for pair in zip(alone, together, strict=True) if pair[0] != pair[1]] == []
