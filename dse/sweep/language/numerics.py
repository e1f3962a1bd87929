"""Application of numerics options to a recipe, in an order of precedence.

Whole objects are set before their parts, and many points before few, so that the more specific setting wins in any
order of the file. A setting that does not fit yet (a constant above the old element format's largest value) is tried
again after the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, get_type_hints

from dse.errors import OptionError, nearest
from dse.numerics.attention import Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import Format
from dse.numerics.gemm import Gemm
from dse.numerics.paths import SELECTORS, precedence
from dse.numerics.recipe import POINTS, Recipe, override
from dse.numerics.registry import to_data
from dse.numerics.rule_options import whole_or_part, without_idle
from dse.numerics.validate import check
from dse.recipes import RECIPES
from dse.sweep.language.words import canonical_technique, fold, parse_boolean, parse_call, parse_number

OptionSetting = tuple[str, Any]
"""A path and what YAML holds for it."""


_FORMATS = [name for name, kind in get_type_hints(BlockQuantizer).items() if kind is Format]
"""Options whose values are formats."""


class InvalidSettings(OptionError):
    """Settings that a recipe cannot take, by their position or key; the text is that of the first."""

    def __init__(self, failures: dict[Any, OptionError]) -> None:
        super().__init__(str(next(iter(failures.values()))))
        self.failures = failures


def option_data(value: Any) -> Any:
    """What a numerics option receives, in one spelling: null, none and off are all 'none', a number in quotes is one.

    >>> option_data("hadamard(size=32)"), option_data("E2M1"), option_data("off")
    ({'hadamard': {'size': 32}}, 'e2m1', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, str):
        value = parse_call(value)
    if isinstance(value, str):
        if fold(value) in ("none", "off"):
            return "none"
        read: Any = parse_number(value)
        read = parse_boolean(value) if read is None else read
        return canonical_technique(value) if read is None else read
    return canonical_technique(value)


def apply_settings(recipe: Recipe, settings: Sequence[OptionSetting]) -> Recipe:
    """The recipe with every setting. Raises Unusable with the positions that do not fit."""
    state = _State(recipe)
    order = sorted(range(len(settings)), key=lambda i: precedence(settings[i][0]))
    for i in order:
        state = state.with_setting(i, settings[i])
    return state.finish([(i, settings[i]) for i in order])


class OverrideCache:
    """Applies settings to one recipe, with a cache of intermediate recipes.

    Settings with the same beginning, in the order of precedence, share that beginning. An option at quantization points
    changes the GEMMs of these points, whatever the others are: the same GEMMs with the same option become the same
    objects.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._root = _Node(_State(recipe))
        self._changed: dict[Hashable, tuple[dict[str, Gemm], dict[str, Gemm]]] = {}

    def get(self, settings: Mapping[Hashable, OptionSetting]) -> Recipe:
        """Like `apply_settings`; a key names one setting in all calls. Raises InvalidSettings by the keys at fault."""
        order = sorted(settings, key=lambda key: precedence(settings[key][0]))
        node = self._root
        for key in order:
            if key not in node.next:
                node.next[key] = _Node(self._take(node.state, key, settings[key]))
            node = node.next[key]
        return node.state.finish([(key, settings[key]) for key in order])

    def _take(self, state: _State, key: Hashable, setting: OptionSetting) -> _State:
        before = {name: getattr(state.recipe, name) for name in _gemms(setting[0])}
        known = key, *map(id, before.values())
        if any(rule.follows for rule in state.recipe.layers):
            return state.with_setting(key, setting)
        if known in self._changed:
            return replace(state, recipe=replace(state.recipe, **self._changed[known][1]))  # type: ignore[arg-type]
        after = state.with_setting(key, setting)
        if before and len(after.waiting) == len(state.waiting):
            # holds what was before, so that its ids stay its own
            self._changed[known] = before, {name: getattr(after.recipe, name) for name in before}
        return after


@cache
def _gemms(path: str) -> tuple[str, ...]:
    """The GEMMs that an option at quantization points changes; none for an option of the recipe."""
    parts = path.split(".")
    for n in (2, 1):
        if points := SELECTORS.get(".".join(parts[:n])):
            return tuple(dict.fromkeys(point.split(".")[0] for point in points))
    return ()


def quantized_points(recipe: Recipe) -> int:
    """How many of the six points have a block quantizer."""
    return sum(isinstance(recipe.quantizer(point), BlockQuantizer) for point in POINTS)


@dataclass(frozen=True)
class _State:
    """A recipe with some of its settings applied; ``waiting`` holds the settings that did not fit yet."""

    recipe: Recipe
    waiting: tuple[tuple[Hashable, OptionSetting], ...] = ()
    errors: dict[Hashable, OptionError] = field(default_factory=dict)

    def with_setting(self, position: Hashable, setting: OptionSetting) -> _State:
        try:
            return _State(_set(self.recipe, *setting), self.waiting, self.errors)
        except OptionError as error:
            return _State(self.recipe, (*self.waiting, (position, setting)), {**self.errors, position: error})

    def finish(self, settings: Sequence[tuple[Hashable, OptionSetting]]) -> Recipe:
        """The recipe once everything fits; ``settings`` are all of them in the order of precedence."""
        if not self.waiting:
            return _validated(self.recipe, settings)
        state = _State(self.recipe)
        for position, setting in self.waiting:
            state = state.with_setting(position, setting)
        if len(state.waiting) == len(self.waiting):
            raise InvalidSettings(state.errors)
        recipe = state.finish(settings)
        for position, setting in settings:  # what waited may have overruled something more specific
            try:
                recipe = _set(recipe, *setting)
            except OptionError as error:
                raise InvalidSettings({position: error}) from None
        return _validated(recipe, settings)


@dataclass(frozen=True)
class _Node:
    """A node of the cache: a state, and the states after one more setting, by its key."""

    state: _State
    next: dict[Hashable, _Node] = field(default_factory=dict)


def _set(recipe: Recipe, path: str, data: Any) -> Recipe:
    """`override`; a selector alone stands for the quantizers at its points: ``forward: bf16``.

    Formats are known by their names, so their parts cannot be set: the trial's identity would not show it.
    """
    for part in path.split(".")[:-1]:
        if part in _FORMATS:
            raise OptionError(f"{path}: {part} is a format by its name, and its parts are fixed")
    if path.split(".")[0] == "schedule":
        data = _gallery_gemms(path, data)
    return whole_or_part(recipe, path, data, override)


def _gallery_gemms(path: str, data: Any) -> Any:
    """What a schedule switches to, written out: the GEMMs of the recipe of the gallery that is named in its place."""
    if path == "schedule" and isinstance(data, Mapping) and isinstance(inner := data.get("switch"), Mapping):
        return {"switch": {name: _gallery_gemms(f"{path}.{name}", value) for name, value in inner.items()}}
    if path != "schedule.to" or not isinstance(data, str):
        return data
    if data not in RECIPES:
        raise OptionError(f"{path}: unknown recipe {data!r}{nearest(data, RECIPES)}")
    found = RECIPES[data]
    if found.layers:
        raise OptionError(f"{path}: recipe {data!r} has rules about layers, and a schedule switches GEMMs alone")
    return to_data(Product(found.fprop, found.dgrad, found.wgrad, found.backward_source))


def _validated(recipe: Recipe, settings: Sequence[tuple[Hashable, OptionSetting]]) -> Recipe:
    """The recipe when its options mean something together, else Unusable at the setting that the reason names."""
    recipe = without_idle(recipe, {part for _, (path, _) in settings for part in path.split(".")})
    try:
        check(recipe)
    except OptionError as error:
        option = str(error).partition(":")[0].rpartition(".")[2]
        named = [position for position, (path, _) in settings if option in path.split(".")]
        raise InvalidSettings({(named or [position for position, _ in settings] or [0])[-1]: error}) from None
    return recipe
