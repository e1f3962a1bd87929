"""The key `baseline`: the configurations that every cell is compared with.

A configuration is a recipe with options at its quantization points and training settings of its own. What it does not
say it has from the cell that it is compared with: task, seed, and the rest of the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dse.errors import UserError, nearest
from dse.numerics.recipe import Recipe, is_option_path
from dse.sweep.definition.axes import TASK, TRAINING, unknown_point_message
from dse.sweep.language.labels import Label, label_of, text_of
from dse.sweep.language.layer_rules import with_names
from dse.sweep.language.numerics import InvalidSettings, apply_settings, option_data
from dse.sweep.language.source import Location
from dse.sweep.language.values import training_value
from dse.sweep.language.words import match_choice

_SHAPE = "a recipe, {recipe: name, path: value}, or {name: one of these}"


@dataclass(frozen=True, eq=False)
class Baseline:
    """One baseline. ``recipe`` has the options that it sets; ``training`` are settings that it sets.

    - ``name``: what results are compared under; ``base``: the recipe that it names, without the options;
    - ``labels``: its values by path;
    - ``plain``: given as a bare recipe. The first one, if it is plain, is never varied by numerics axes.
    """

    name: str
    base: str
    recipe: Recipe
    training: Mapping[str, Any]
    labels: Mapping[str, Label]
    plain: bool
    at: Location


def read_baselines(items: Sequence[tuple[Location, Any]], known: Mapping[str, Recipe]) -> tuple[Baseline, ...]:
    """The baselines in the file's order. Raises UserError (file:line)."""
    found: list[Baseline] = []
    for at, item in items:
        baseline = _read(at, item, known)
        if baseline.name in [other.name for other in found]:
            raise at.error(f"baseline: {baseline.name!r} is listed twice")
        found.append(baseline)
    return tuple(found)


def _read(at: Location, item: Any, known: Mapping[str, Recipe]) -> Baseline:
    if isinstance(item, str):
        return _plain(at, item, item, known)
    if isinstance(item, Mapping) and "recipe" in item and not isinstance(item["recipe"], Mapping):
        return _config(at, "", item, known)
    if isinstance(item, Mapping) and len(item) == 1:
        (name, config), inside = next(iter(item.items())), at / next(iter(item))
        if not name or name != name.strip() or not name.isprintable():
            raise inside.error(f"baseline: {name!r} is no name")
        if isinstance(config, str):
            return _plain(inside, name, config, known)
        if isinstance(config, Mapping) and isinstance(config.get("recipe"), str):
            return _config(inside, name, config, known)
        raise inside.error(f"baseline: {name}: expected a recipe, or {{recipe: name, path: value}}")
    text = repr(item)
    raise at.error(f"baseline: expected {_SHAPE}, found {text if len(text) <= 60 else text[:57] + '...'}")


def _plain(at: Location, name: str, recipe: str, known: Mapping[str, Recipe]) -> Baseline:
    own = match_choice(recipe, known)
    return Baseline(own if name == recipe else name, own, _recipe(at, own, known), {}, {}, True, at)


def _recipe(at: Location, name: Any, known: Mapping[str, Recipe]) -> Recipe:
    name = match_choice(name, known)
    if not isinstance(name, str) or name not in known:
        raise at.error(f"baseline: unknown recipe {name!r}{nearest(name, known)}")
    return known[name]


def _config(at: Location, name: str, config: Mapping[str, Any], known: Mapping[str, Recipe]) -> Baseline:
    base = _recipe(at / "recipe", config["recipe"], known)
    training: dict[str, Any] = {}
    numerics: list[tuple[str, Any]] = []
    for path, value in config.items():
        kind, _, option = path.partition(".")
        if kind == TRAINING and option:
            try:
                training[option] = training_value(option, value)
            except UserError as error:
                raise (at / path).error(f"baseline: {error}") from None
        elif kind == TASK and option:
            raise (at / path).error("baseline: it has the task of the cell that it is compared with, options and all")
        elif path != "recipe":
            if not is_option_path(path):
                raise (at / path).error(f"baseline: {unknown_point_message(path, (TRAINING,))}")
            numerics.append((path, option_data(value)))
    try:
        recipe = apply_settings(base, list(with_names(dict(enumerate(numerics)), known).values()))
    except InvalidSettings as error:
        raise (at / numerics[next(iter(error.failures))][0]).error(f"baseline: {error}") from None
    labels = {path: label_of(value) for path, value in numerics}
    labels |= {f"{TRAINING}.{option}": label_of(value) for option, value in training.items()}
    text = " ".join([base.name, *(f"{path}={text_of(label)}" for path, label in labels.items())])
    if name in known:
        raise at.error(f"baseline: {name!r} is a recipe; a changed one needs a name of its own")
    return Baseline(name or text, base.name, replace(recipe, name=base.name), training, labels, False, at)
