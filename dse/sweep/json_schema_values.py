"""Schemas of values: one for each family of techniques, format, training setting and task option."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from dse.errors import UserError
from dse.numerics.attention import Attention, Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES, Format
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import GEMMS, RECIPE_OPTIONS, SAME, SELECTORS, Recipe, Rule
from dse.numerics.registry import FAMILIES, words
from dse.optim import FIRST_MOMENTS, OPTIMIZERS, SECOND_MOMENTS
from dse.optim.loss_scaling import LOSS_SCALINGS
from dse.tasks import TASKS
from dse.tasks.base import ACTIVATIONS, DECAYED, SCHEDULES, Task, Training
from dse.trial import make_task

Schema = dict[str, Any]

_SCALARS: dict[type, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
}


def any_of(*schemas: Schema) -> Schema:
    """A value that fits any of the schemas."""
    return {"anyOf": list(schemas)}


def mapping_of(keys: Mapping[str, Schema], patterns: Mapping[str, Schema] | None = None) -> Schema:
    """A mapping with these keys and no others."""
    more = {"patternProperties": dict(patterns)} if patterns else {}
    return {"type": "object", "additionalProperties": False, "properties": dict(keys), **more}


def list_of(item: Schema, least: int = 1) -> Schema:
    """A list of at least ``least`` items."""
    return {"type": "array", "minItems": least, "items": item}


def single_entry(value: Schema) -> Schema:
    """A mapping of one name."""
    return {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": value}


def ref(name: str) -> Schema:
    """A reference to the schema of this name under `definitions`."""
    return {"$ref": f"#/definitions/{name}"}


def value_definitions() -> dict[str, Schema]:
    """A definition for each family of techniques and both pools of formats."""
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 2}
    listed = {
        "type": "object",
        "properties": {"values": numbers},
        "required": ["values"],
        "additionalProperties": False,
    }
    pools: dict[str, Schema] = {
        "element": {"anyOf": [{"enum": list(ELEMENTS)}, listed]},
        "scale": {"enum": list(SCALES)},
    }
    return {**pools, **{_name(family): _family(family) for family in FAMILIES}}


def training_settings() -> dict[str, Schema]:
    """Training setting -> schema of its values."""
    choices = {
        "optimizer": list(OPTIMIZERS),
        "loss_scaling": list(LOSS_SCALINGS),
        "first_moment": list(FIRST_MOMENTS),
        "second_moment": list(SECOND_MOMENTS),
        "schedule": list(SCHEDULES),
        "decayed": list(DECAYED),
        "activations": list(ACTIVATIONS),
    }
    found = {f.name: _kind(_hints(Training)[f.name], f.name) for f in fields(Training)}
    return {**found, **{name: {"enum": known} for name, known in choices.items()}}


def task_options(cls: type[Task[Any]]) -> dict[str, Schema]:
    """Task option -> schema of its values; an enumeration where the task takes certain words only."""
    hints = _hints(cls)
    return {f.name: _words_of(cls.name, f.name) or _kind(hints[f.name], f.name) for f in fields(cls)}


def option_paths(*, numerics: bool = False) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Option path -> schema of its values, and patterns of paths that are too many to list.

    With ``numerics``, only those of a recipe: options at quantization points, and of the recipe as a whole.
    """
    found: dict[str, Schema] = {}
    at_points = [option for owner in (BlockQuantizer, Gemm) for option in _options(owner)]
    for selector in SELECTORS:
        found[selector] = any_of(ref(_name(Quantizer)), {"enum": ["none", "off", None]})
        found |= {f"{selector}.{path}": schema for path, schema in at_points}
    found |= {path: schema for path, schema in _options(Recipe) if path.split(".")[0] in RECIPE_OPTIONS}
    inner = "|".join(re.escape(selector) for selector in SELECTORS if selector not in GEMMS)
    anywhere = "|".join(re.escape(selector) for selector in SELECTORS)
    patterns: dict[str, Schema] = {
        rf"^({inner})\.(lhs|rhs)\.": {},
        rf"^attention\.((scores|outputs)\.)?({anywhere})(\.|$)": {},
        r"^layers\.[^.]+(\.|$)": {},
    }
    if not numerics:
        found |= {f"training.{name}": schema for name, schema in training_settings().items()}
        options = [(name, schema) for cls in TASKS.values() for name, schema in task_options(cls).items()]
        for name in dict.fromkeys(name for name, _ in options):
            found[f"task.{name}"] = any_of(*(schema for other, schema in options if other == name))
    return found, patterns


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _options(owner: type) -> Iterator[tuple[str, Schema]]:
    """The options of a dataclass, and the parameters of those that a family stands behind: ``rounding.bits``."""
    hints = _hints(owner)
    for f in fields(owner):
        kind, _ = _bare(hints[f.name])
        schema = _kind(hints[f.name], f.name)
        yield f.name, schema
        members = FAMILIES[kind].values() if kind in FAMILIES and kind is not Quantizer else []
        if not members and is_dataclass(kind) and kind is not Format:
            members = [kind]  # type: ignore[list-item]
        parameters: dict[str, list[Schema]] = {}
        for cls in members:
            for inner in fields(cls):
                parameters.setdefault(inner.name, []).append(_kind(_hints(cls)[inner.name], inner.name))
        yield from ((f"{f.name}.{name}", any_of(*schemas)) for name, schemas in parameters.items())


def _kind(kind: Any, name: str) -> Schema:
    """The schema of what `registry.from_data` takes for a field of this type."""
    kind, optional = _bare(kind)
    if optional:
        return any_of(_kind(kind, name), {"enum": ["none", "off", None]})
    if kind is Format:
        return ref("scale" if name == "scale" else "element")
    if kind in FAMILIES:
        return ref(_name(kind))
    if get_origin(kind) is tuple and get_args(kind)[0] is Rule:
        listed = {"type": "array", "items": {"type": "object"}}
        return any_of(listed, {"type": "object"}, {"enum": ["none", "off", None]})
    if get_origin(kind) is tuple:
        return list_of(_kind(get_args(kind)[0], name), 0)
    if kind in (Attention, Product):
        return any_of({"type": "object"}, {"enum": [SAME, "none", "off", None]})
    if is_dataclass(kind):
        return _parameters(kind)  # type: ignore[arg-type]
    return _SCALARS.get(kind, {})


def _bare(kind: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was allowed."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(k for k in get_args(kind) if k is not type(None)), type(None) in get_args(kind)
    return kind, False


def _family(family: type) -> Schema:
    """A member's name, or {name: {parameter: value}}."""
    members = FAMILIES[family]
    one = {name: any_of(_parameters(cls), {"type": "null"}) for name, cls in members.items()}
    return any_of({"enum": list(members)}, {**mapping_of(one), "minProperties": 1, "maxProperties": 1})


def _parameters(cls: type) -> Schema:
    about = (cls.__doc__ or "").strip().splitlines()
    known = mapping_of({f.name: _kind(_hints(cls)[f.name], f.name) for f in fields(cls)})
    return {**known, "description": about[0]} if about else known


def _name(family: type) -> str:
    return words(family).replace(" ", "_")


def _words_of(task: str, option: str) -> Schema | None:
    """The words that the task names when it refuses one; None where it takes any, or something else."""
    try:
        make_task(task, {option: "\0"})
    except UserError as error:
        _, found, tail = str(error).partition("; valid: ")
        known = tail.split(", ") if found else []
        if known and all(_takes(task, option, word) for word in known):
            return {"enum": known}
    return None


def _takes(task: str, option: str, word: str) -> bool:
    try:
        make_task(task, {option: word})
    except UserError:
        return False
    return True
