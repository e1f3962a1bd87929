"""Rules about layers as sweep files write them: recipes by their names, and options in their spellings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from dse.errors import OptionError, nearest
from dse.numerics.layer_choice import LAYER_KINDS
from dse.numerics.point_options import SAME
from dse.numerics.recipe import Recipe
from dse.numerics.rule_options import CONDITIONS, RULE_KEYS
from dse.sweep.language.numerics import InvalidSettings, OptionSetting, option_data
from dse.sweep.language.words import fold, match_choice, parse_boolean

K = TypeVar("K", bound=Hashable)

LAYERS = "layers"
"""The first word of paths about rules."""


def with_recipes(path: str, value: Any, known: Mapping[str, Recipe]) -> Any:
    """The value of an option as ``override`` takes it: in those about rules, names of recipes become these.

    ``known``: the recipes by their names. Raises OptionError for a name of none of them.
    """
    head, *rest = path.split(".")
    if head != LAYERS or len(rest) > 1:
        return value if head != LAYERS or rest[1:] != ["recipe"] else _recipe(path, value, known)
    if rest:
        return _numerics(path, value, known)
    if isinstance(value, Mapping):
        kinds = {key: match_choice(key, LAYER_KINDS) for key in value}
        return {kinds[key]: _numerics(f"{path}.{key}", own, known) for key, own in value.items()}
    if isinstance(value, list):
        return [_rule(f"{path}: rule {i}", own, known) if isinstance(own, Mapping) else own
                for i, own in enumerate(value, 1)]  # fmt: skip
    return value


def with_names(settings: Mapping[K, OptionSetting], known: Mapping[str, Recipe]) -> dict[K, OptionSetting]:
    """Settings with ``with_recipes``. Raises InvalidSettings by the keys of those at fault."""
    found: dict[K, OptionSetting] = {}
    failures: dict[Hashable, OptionError] = {}
    for key, (path, value) in settings.items():
        try:
            found[key] = path, with_recipes(path, value, known)
        except OptionError as error:
            failures[key] = error
    if failures:
        raise InvalidSettings(failures)
    return found


def _rule(path: str, rule: Mapping[str, Any], known: Mapping[str, Recipe]) -> dict[str, Any]:
    """A rule of a list: conditions as they are, and numerics."""
    named = {str(match_choice(key, (*CONDITIONS, *RULE_KEYS))): own for key, own in rule.items()}
    conditions = {key: own for key, own in named.items() if key in CONDITIONS}
    for key in conditions.keys() & {"kind", "kinds"}:
        own = conditions[key]
        conditions[key] = [match_choice(kind, LAYER_KINDS) for kind in (own if isinstance(own, list) else [own])]
    rest = {key: own for key, own in named.items() if key not in CONDITIONS}
    return {**conditions, **_options(path, rest, known)}


def _numerics(path: str, value: Any, known: Mapping[str, Recipe]) -> Any:
    """What a rule says of its layers: a recipe, or options."""
    return _options(path, value, known) if isinstance(value, Mapping) else _recipe(path, value, known)


def _options(path: str, options: Mapping[str, Any], known: Mapping[str, Recipe]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, own in options.items():
        if key == "recipe":
            found[key] = _recipe(f"{path}.recipe", own, known)
        elif key == "optional":
            word = parse_boolean(own)
            found[key] = own if word is None else word
        else:
            found[key] = own if key == "label" else option_data(own)
    return found


def _recipe(path: str, name: Any, known: Mapping[str, Recipe]) -> Any:
    if isinstance(name, Recipe) or name is None or (isinstance(name, str) and fold(name) in ("none", "off", SAME)):
        return fold(name) if isinstance(name, str) else name
    name = match_choice(name, known)
    if not isinstance(name, str) or name not in known:
        raise OptionError(f"{path}: unknown recipe {name!r}{nearest(name, [*known, SAME])}")
    return known[name]


__all__ = ["LAYERS", "with_names", "with_recipes"]
