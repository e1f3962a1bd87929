"""Costs of a recipe by name, and limits of them as sweep files write them: ``overhead: '> 15 %'``.

A cost needs no run: it is a function of the recipe alone, and of a model and hardware where it is a time.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from dse.cost.cost_places import USUAL, CostPlace
from dse.cost.overhead import overhead
from dse.errors import UserError, nearest
from dse.numerics.recipe import Recipe

COSTS = {
    "overhead": "extra vector operations at peak rates, in percent of three FP4 GEMMs",
    "time": "time of a training step with separate kernels, BF16 = 1",
}
"""Name of a cost -> what it is."""
_COMPARED = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_FORM = re.compile(r"\s*(>=|<=|>|<)\s*(\d+(?:\.\d+)?)\s*(%?)(?:\s+at\s+(\S+))?(?:\s+on\s+(\S+))?\s*")


@cache
def step_against_bf16(recipe: Recipe, at: CostPlace = USUAL) -> float:
    """Time of a step, BF16 = 1, every pass a kernel of its own. Raises UserError for unknown names."""
    from dse.cost.models import deployed
    from dse.cost.roofline import AS_MEASURED, machine, step_time

    own = step_time(recipe, deployed(at.model), machine(at.hardware), AS_MEASURED)
    return own.seconds / _bf16_seconds(at)


@cache
def _bf16_seconds(at: CostPlace) -> float:
    from dse.cost.models import deployed
    from dse.cost.roofline import AS_MEASURED, machine, step_time
    from dse.recipes.bf16 import BF16

    return step_time(BF16, deployed(at.model), machine(at.hardware), AS_MEASURED).seconds


@cache
def _overhead(recipe: Recipe) -> float:
    return overhead(recipe)


@dataclass(frozen=True)
class CostLimit:
    """A comparison of a recipe's cost with a number; ``at``: the place of a time."""

    cost: str
    comparison: str
    value: float
    at: CostPlace = USUAL

    def met(self, recipe: Recipe) -> bool:
        """Whether the comparison holds for a recipe."""
        own = _overhead(recipe) if self.cost == "overhead" else step_against_bf16(recipe, self.at)
        compare: Callable[[float, float], bool] = _COMPARED[self.comparison]
        return compare(own, self.value)


def cost_limit(cost: str, text: object) -> CostLimit:
    """A limit from text: '> 15 %', '>= 0.8', or with a place, '> 0.8 at llama3-70b on gb200'.

    Raises UserError for anything else, for an unknown model or hardware, and for a place of what is no time.

    >>> cost_limit("overhead", "> 15 %")
    CostLimit(cost='overhead', comparison='>', value=15.0, at=CostPlace(model='llama3-8b', hardware='b200'))
    """
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if cost not in COSTS:
        raise UserError(f"no cost {cost!r}{nearest(cost, COSTS)}")
    if found is None:
        example = "'> 15 %'" if cost == "overhead" else "'> 0.8', or '> 0.8 at llama3-70b on gb200'"
        raise UserError(f"{cost} is compared with a number, for example {example}; found {text!r}")
    comparison, number, percent, model, hardware = found.groups()
    if cost == "overhead" and (model or hardware):
        raise UserError("overhead counts operations on Llama-3 8B; only time is at a model and on hardware")
    value = float(number) / (100 if percent and cost == "time" else 1)
    at = CostPlace(model or USUAL.model, hardware or USUAL.hardware)
    return CostLimit(cost, comparison, value, at.checked() if cost == "time" else at)


__all__ = ["COSTS", "CostLimit", "cost_limit", "step_against_bf16"]
