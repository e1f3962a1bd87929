"""The JSON Schema of sweep files, from the registries: with it an editor completes and checks them.

The schema allows everything that the loader takes (a test holds this), and refuses most of what it refuses: what
depends on several values at once only the loader can tell.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from dse.recipes import RECIPES
from dse.sweep.editor_values import (
    Schema,
    closed,
    either,
    listed,
    one_entry,
    option_paths,
    reference,
    task_options,
    training_settings,
    value_definitions,
)
from dse.sweep.labels import HEAD
from dse.sweep.ranges import KINDS, PARTS
from dse.sweep.schema import SearchFile, SweepFile, TaskBlock, WhenBlock
from dse.sweep.search import METHODS, OBJECTIVES
from tasks import TASKS

_NOTHING: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string"}


def schema_json() -> dict[str, Any]:
    """The schema as plain data: JSON Schema draft 7, which editors know best. The same for the same registries."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A sweep of dse",
        **closed(_described(SweepFile, _file())),
        "definitions": {
            **value_definitions(),
            "range": _range(),
            "grid": either(closed(*_axes(ranges=True)), _NOTHING),
            "zip": either(closed(*_axes(ranges=False)), listed(closed(*_axes(ranges=False)), 0), _NOTHING),
            "when": either(listed(closed(_described(WhenBlock, _when())), 0), _NOTHING),
            "rule": _rule(),
            "training": either(closed(training_settings()), _NOTHING),
            "recipe": _recipe(),
            "recipe_name": either({"enum": list(RECIPES)}, _TEXT),
            "config": _config(),
        },
    }


def _file() -> dict[str, Schema]:
    seed = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
    baseline = either(reference("recipe_name"), reference("config"))
    baseline = either(baseline, one_entry(baseline))
    return {
        "include": either(_TEXT, listed(_TEXT, 0), _NOTHING),
        "name": either({**_TEXT, "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}, _NOTHING),
        "tasks": listed(either({"enum": list(TASKS)}, {**_TEXT, "pattern": ":"}, *map(_task, TASKS), _own_task())),
        "recipes": listed(either({"enum": list(RECIPES)}, one_entry(reference("recipe")))),
        "seeds": either({"type": "integer", "minimum": 1, "maximum": 1_000_000}, listed(seed)),
        "baseline": either(baseline, listed(baseline)),
        "training": reference("training"),
        **{key: reference(key) for key in ("grid", "zip", "when")},
        "exclude": either(listed(reference("rule"), 0), _NOTHING),
        "search": either(*map(_search, METHODS)),
        "probes": either(closed({"every": {"type": "integer", "minimum": 1}, "layers": _TEXT}), _NOTHING),
    }


def _task(name: str) -> Schema:
    """{name: {option: value, training: {...}, grid: {...}}}"""
    settings = closed({**task_options(TASKS[name]), **_task_block()})
    return {**closed({name: either(settings, _NOTHING)}), "minProperties": 1}


def _own_task() -> Schema:
    """The same for a task of one's own, by its import path: its options are not known here."""
    settings = {"type": "object", "properties": _task_block()}
    return {**closed({}, {":": either(settings, _NOTHING)}), "minProperties": 1, "maxProperties": 1}


def _task_block() -> dict[str, Schema]:
    return _described(TaskBlock, {key: reference(key) for key in TaskBlock.model_fields})


def _when() -> dict[str, Schema]:
    return {"if": reference("rule"), "grid": reference("grid"), "zip": reference("zip")}


def _rule() -> Schema:
    """{axis: value}, {axis: [values]} or {axis: {not: value}}; a value may be written as its label: anything goes."""
    known: dict[str, Schema] = {head: {} for head in HEAD}
    explicit, patterns = option_paths()
    return either(closed({**known, **dict.fromkeys(explicit, _ANY)}, dict.fromkeys(patterns, _ANY)), _NOTHING)


_ANY: Schema = {}


def _axes(*, ranges: bool) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Path -> the list of its values, or a range of numbers; and the same for patterns of paths."""

    def values(value: Schema) -> Schema:
        return either(listed(value), reference("range")) if ranges else listed(value)

    explicit, patterns = option_paths()
    return {path: values(value) for path, value in explicit.items()}, {p: values(v) for p, v in patterns.items()}


def _recipe() -> Schema:
    """{base: name, path: value}; nothing for a recipe of the gallery."""
    explicit, patterns = option_paths(numerics=True)
    inline = {**closed({"base": reference("recipe_name"), **explicit}, patterns), "required": ["base"]}
    return either(inline, {"type": "object", "maxProperties": 0}, _NOTHING)


def _config() -> Schema:
    """{recipe: name, path: value}: a baseline."""
    explicit, patterns = option_paths(numerics=True)
    training = {f"training.{name}": value for name, value in training_settings().items()}
    return {**closed({"recipe": reference("recipe_name"), **training, **explicit}, patterns), "required": ["recipe"]}


def _range() -> Schema:
    ends = {**listed({"type": "number"}, 2), "maxItems": 2}
    parts: dict[str, Schema] = {"step": {"type": "number"}, "levels": {"type": "integer", "minimum": 1}}
    own = {part: {**schema, "description": PARTS[part]} for part, schema in parts.items()}
    kinds = [
        {**closed({kind: {**ends, "description": what}, **own}), "required": [kind]} for kind, what in KINDS.items()
    ]
    return either(*kinds)


def _search(method: str) -> Schema:
    count: Schema = {"type": "integer", "minimum": 0}
    own: dict[str, Schema] = dict.fromkeys(METHODS[method], count)
    if "objectives" in own:
        own["objectives"] = listed({"enum": list(OBJECTIVES)})
    share: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    rungs = either({"type": "integer", "minimum": 1}, listed(share))
    own["halving"] = closed({"eta": {"type": "integer", "minimum": 2}, "rungs": rungs})
    required = [key for key, default in METHODS[method].items() if default is None]
    described = _described(SearchFile, {"method": {"const": method}, **own})
    return {**closed(described), "required": ["method", *required]}


def _described(model: type[BaseModel], keys: dict[str, Schema]) -> dict[str, Schema]:
    """The keys with the descriptions of the model's fields. A reference allows nothing beside it in draft 7."""
    about = {f.alias or name: f.description for name, f in model.model_fields.items()}
    wrapped = {key: {"allOf": [schema]} if "$ref" in schema else schema for key, schema in keys.items()}
    return {key: {**schema, "description": about[key]} if about.get(key) else schema for key, schema in wrapped.items()}
