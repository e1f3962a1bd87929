"""Options set at quantization points: in which order several take effect, and every combination of a grid of them.

Whole objects are set before their parts, and many points before few, so that the more specific setting wins however
the file is ordered. A setting that does not fit yet (a constant above the old element format's largest value) is tried
again after the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dse.block import BlockQuantizer
from dse.errors import OptionError
from dse.meaning import check
from dse.recipe import POINTS, SELECTORS, Recipe, override

Setting = tuple[str, Any]
"""A path and what YAML holds for it."""


class Unusable(OptionError):
    """Settings that a recipe cannot take, by their position; the text is that of the first."""

    def __init__(self, failures: dict[int, OptionError]) -> None:
        super().__init__(str(next(iter(failures.values()))))
        self.failures = failures


def option_data(value: Any) -> Any:
    """What a numerics option receives for YAML's ways to say no: null, none and off are all 'none'."""
    return "none" if value is None or value == "off" else value


def apply(recipe: Recipe, settings: Sequence[Setting]) -> Recipe:
    """The recipe with every setting. Raises Unusable with the positions that do not fit."""
    state = _State(recipe)
    order = sorted(range(len(settings)), key=lambda i: _precedence(settings[i][0]))
    for i in order:
        state = state.take(i, settings[i])
    return state.settled([(i, settings[i]) for i in order])


def combinations(recipe: Recipe, axes: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[tuple[tuple[int, ...], Any]]:
    """(value index per axis, the recipe with those values or Unusable), in the order of `itertools.product`.

    Common beginnings are set once, so that a grid costs little more than one override per combination.
    """
    order = sorted(range(len(axes)), key=lambda i: _precedence(axes[i][0]))
    found: dict[tuple[int, ...], Recipe | Unusable] = {}

    def descend(depth: int, state: _State, chosen: dict[int, int]) -> None:
        if depth == len(order):
            settings = [(i, (axes[i][0], axes[i][1][chosen[i]])) for i in order]
            key = tuple(chosen[i] for i in range(len(axes)))
            try:
                found[key] = state.settled(settings)
            except Unusable as unusable:
                found[key] = unusable
            return
        i = order[depth]
        path, values = axes[i]
        for index, value in enumerate(values):
            descend(depth + 1, state.take(i, (path, value)), {**chosen, i: index})

    descend(0, _State(recipe), {})
    return ((key, found[key]) for key in sorted(found))


def quantized_points(recipe: Recipe) -> int:
    """How many of the six points have a block quantizer."""
    return sum(isinstance(recipe.quantizer(point), BlockQuantizer) for point in POINTS)


@dataclass(frozen=True)
class _State:
    """A recipe on its way: what is set so far, and the positions and settings that did not fit yet."""

    recipe: Recipe
    waiting: tuple[tuple[int, Setting], ...] = ()
    errors: dict[int, OptionError] = field(default_factory=dict)

    def take(self, position: int, setting: Setting) -> _State:
        try:
            return _State(override(self.recipe, *setting), self.waiting, self.errors)
        except OptionError as error:
            return _State(self.recipe, (*self.waiting, (position, setting)), {**self.errors, position: error})

    def settled(self, settings: Sequence[tuple[int, Setting]]) -> Recipe:
        """The recipe once everything fits; ``settings`` are all of them in the order of precedence."""
        if not self.waiting:
            return _meaningful(self.recipe, settings)
        state = _State(self.recipe)
        for position, setting in self.waiting:
            state = state.take(position, setting)
        if len(state.waiting) == len(self.waiting):
            raise Unusable(state.errors)
        recipe = state.settled(settings)
        for position, setting in settings:  # what waited may have overruled something more specific
            try:
                recipe = override(recipe, *setting)
            except OptionError as error:
                raise Unusable({position: error}) from None
        return _meaningful(recipe, settings)


def _meaningful(recipe: Recipe, settings: Sequence[tuple[int, Setting]]) -> Recipe:
    """The recipe when its options mean something together, else Unusable at the setting that the reason names."""
    try:
        check(recipe)
    except OptionError as error:
        option = str(error).partition(":")[0].rpartition(".")[2]
        named = [position for position, (path, _) in settings if option in path.split(".")]
        raise Unusable({(named or [position for position, _ in settings] or [0])[-1]: error}) from None
    return recipe


def _precedence(path: str) -> tuple[int, int]:
    """Depth of the option, then minus the number of points: sorts the general before the specific."""
    parts = path.split(".")
    if path in POINTS:
        return 0, -1
    for n in (2, 1):
        points = SELECTORS.get(".".join(parts[:n]))
        if points is not None:
            return len(parts) - n, -len(points)
    return len(parts), 0
