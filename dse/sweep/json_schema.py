"""JSON Schema of sweep files, generated from the registries, for completion and checks in editors.

The schema allows every form that the loader takes, shorthands among them (tests hold this), but only in canonical
spelling: words in upper case, with hyphens or in quotes are marked. It refuses most of what the loader refuses; what
depends on several values at once is checked by the loader alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from dse.cost.limits import COSTS
from dse.recipes import RECIPES
from dse.sweep.definition.save import KINDS as SAVED
from dse.sweep.definition.search import METHODS, OBJECTIVES, TIME_AT
from dse.sweep.json_schema_values import (
    Schema,
    any_of,
    list_of,
    mapping_of,
    option_paths,
    ref,
    single_entry,
    task_options,
    training_settings,
    value_definitions,
)
from dse.sweep.language.labels import HEAD
from dse.sweep.language.option_names import SINGULAR, short_names
from dse.sweep.language.ranges import ENDS, KINDS, PARTS
from dse.sweep.read.schema import EntryBlock, SearchFile, SweepFile, WhenBlock
from dse.sweep.read.shorthand import POST
from dse.tasks import TASKS

_NOTHING: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string"}
_SEVERAL: Schema = {"type": "string", "pattern": r"[*?\[,]|^all$"}
"""A word for several names: ``all``, a pattern, or names with commas between them."""
_CALL: Schema = {"type": "string", "pattern": r"^\w+\(.*\)$"}
"""An object as a plan prints it."""
_PLACE: Schema = {"type": "string", "pattern": r"^ *\S+ +on +\S+ *$"}
"""A model on hardware."""
_NUMBERS: Schema = {"type": "string", "pattern": r"^[-+.\deE]+(, *[-+.\deE]+)*$"}


def schema_json() -> dict[str, Any]:
    """The schema as plain data: JSON Schema draft 7, which editors know best. The same for the same registries."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A sweep of dse",
        **mapping_of({**_described(SweepFile, _file()), **_short_keys()}, {"^x-": {}}),
        "definitions": {
            **value_definitions(),
            "range": _range(),
            "grid": any_of(mapping_of(*_axes(ranges=True)), _NOTHING),
            "zip": any_of(mapping_of(*_axes(ranges=False)), list_of(mapping_of(*_axes(ranges=False)), 0), _NOTHING),
            "when": any_of(*_one_or_listed(mapping_of(_described(WhenBlock, _when()))), _NOTHING),
            "rule": _rule(),
            "exclusion": _rule(COSTS),
            "training": any_of(mapping_of(_prefixed(training_settings())), _NOTHING),
            "recipe": _recipe(),
            "recipe_name": any_of({"enum": list(RECIPES)}, _TEXT),
            "config": _config(),
        },
    }


def _file() -> dict[str, Schema]:
    seed = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
    baseline = any_of(ref("recipe_name"), ref("config"))
    baseline = any_of(baseline, single_entry(baseline))
    return {
        "include": any_of(_TEXT, list_of(_TEXT, 0), _NOTHING),
        "plugins": any_of(_TEXT, list_of(_TEXT, 0), _NOTHING),
        "name": any_of({**_TEXT, "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}, _NOTHING),
        "tasks": _tasks(),
        "recipes": _recipes(),
        "seeds": any_of({"type": "integer", "minimum": 1, "maximum": 1_000_000}, list_of(seed), _NUMBERS),
        "baseline": any_of(baseline, list_of(baseline), _SEVERAL),
        "training": ref("training"),
        **{key: ref(key) for key in ("grid", "zip", "when")},
        "exclude": any_of(*_one_or_listed(ref("exclusion")), _NOTHING),
        "search": any_of(*map(_search, METHODS), {"enum": [m for m in METHODS if None not in METHODS[m].values()]}),
        "probes": any_of(mapping_of({"every": {"type": "integer", "minimum": 1}, "layers": _TEXT}), _NOTHING),
        "places": any_of(_PLACE, list_of(_PLACE)),
        "save": any_of({"enum": list(SAVED)}, list_of({"enum": list(SAVED)}, 0), _NOTHING),
    }


def _short_keys() -> dict[str, Schema]:
    """Other words for the keys of a file, training settings without their key, and the axis beside `recipes`."""
    file = _file()
    keys = {word: file[key] for word, key in SINGULAR.items()}
    keys[POST] = _axes(ranges=False)[0][POST]
    return {**keys, **{name: schema for name, schema in _prefixed(training_settings()).items() if name not in file}}


def _prefixed(settings: dict[str, Schema]) -> dict[str, Schema]:
    """Settings, each with and without ``training.`` before it."""
    return {**settings, **{f"training.{name}": schema for name, schema in settings.items()}}


def _one_or_listed(item: Schema) -> tuple[Schema, Schema]:
    return item, list_of(item, 0)


def _tasks() -> Schema:
    path = {**_TEXT, "pattern": ":"}
    beside = any_of(*({"type": "object", "required": [key], "properties": {key: _TEXT}} for key in ("name", "task")))
    item = any_of({"enum": list(TASKS)}, path, _SEVERAL, _CALL, *map(_task, TASKS), _own_task(), beside)
    whole = mapping_of({name: any_of(_task_settings(name), _NOTHING) for name in TASKS}, {":": {}})
    return any_of(list_of(item), {"enum": list(TASKS)}, path, _SEVERAL, _CALL, {**whole, "minProperties": 1}, beside)


def _recipes() -> Schema:
    beside = {"type": "object", "required": ["base"], "properties": {"name": _TEXT, "label": _TEXT}}
    value = any_of(ref("recipe"), ref("recipe_name"))
    item = any_of({"enum": list(RECIPES)}, _SEVERAL, single_entry(value), {**beside, "minProperties": 2})
    whole = {"type": "object", "minProperties": 1, "additionalProperties": value}
    return any_of(list_of(item), {"enum": list(RECIPES)}, _SEVERAL, whole, {**beside, "minProperties": 2})


def _task_settings(name: str) -> Schema:
    options = task_options(TASKS[name])
    both = {**_prefixed(training_settings()), **options, **{f"task.{o}": options[o] for o in options}}
    start = mapping_of({"from": ref("recipe_name"), **both, "training": ref("training")})
    return mapping_of({**both, **_task_block(any_of(ref("recipe_name"), start, _NOTHING))})


def _task(name: str) -> Schema:
    """{name: {option: value, training: {...}, grid: {...}}}"""
    settings = _task_settings(name)
    return {**mapping_of({name: any_of(settings, _NOTHING)}), "minProperties": 1}


def _own_task() -> Schema:
    """The same for a task of one's own, by its import path: its options are not known here."""
    settings = {"type": "object", "properties": _task_block({})}
    return {**mapping_of({}, {":": any_of(settings, _NOTHING)}), "minProperties": 1, "maxProperties": 1}


def _task_block(start: Schema) -> dict[str, Schema]:
    keys = {key: ref(key) for key in EntryBlock.model_fields if key != "start"}
    return _described(EntryBlock, {**keys, "start": start})


def _when() -> dict[str, Schema]:
    return {"if": ref("rule"), "grid": ref("grid"), "zip": ref("zip")}


def _rule(limits: Iterable[str] = ()) -> Schema:
    """{axis: value}, {axis: [values]} or {axis: {not: value}}; a value may be written as its label: anything goes.

    ``limits``: costs that a comparison may stand for, {overhead: '> 15 %'}.
    """
    known: dict[str, Schema] = {head: {} for head in (*HEAD, *(f"{head}s" for head in HEAD))}
    explicit, patterns = option_paths()
    known |= dict.fromkeys(short_names(), _ANY) | dict.fromkeys(limits, _TEXT)
    return any_of(mapping_of({**known, **dict.fromkeys(explicit, _ANY)}, dict.fromkeys(patterns, _ANY)), _NOTHING)


_ANY: Schema = {}


def _axes(*, ranges: bool) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Path -> the list of its values, or a range of numbers; and the same for patterns of paths."""

    def values(value: Schema) -> Schema:
        several = [list_of(any_of(value, _CALL)), value, _CALL, {**_TEXT, "pattern": ","}]
        return any_of(*several, ref("range")) if ranges else any_of(*several)

    explicit, patterns = option_paths()
    found = {path: values(value) for path, value in explicit.items()}
    bare = {name: found[path] for name, path in short_names().items()}
    found["schedule"] = any_of(found["schedule"], found["training.schedule"])
    found["training.betas"] = bare["betas"] = any_of(found["training.betas"], list_of({"type": "number"}))
    kinds = ("training", "task")
    nested = {
        kind: mapping_of({p.partition(".")[2]: own for p, own in found.items() if p.startswith(f"{kind}.")})
        for kind in kinds
    }
    return {**found, **bare, **nested}, {p: values(v) for p, v in patterns.items()}


def _recipe() -> Schema:
    """{base: name, path: value}; nothing for a recipe of the gallery."""
    explicit, patterns = option_paths(numerics=True)
    inline = {**mapping_of({"base": ref("recipe_name"), **explicit}, patterns), "required": ["base"]}
    named = {**mapping_of({"recipe": ref("recipe_name"), **explicit}, patterns), "required": ["recipe"]}
    return any_of(inline, named, {"type": "object", "maxProperties": 0}, _NOTHING)


def _config() -> Schema:
    """{recipe: name, path: value}: a baseline."""
    explicit, patterns = option_paths(numerics=True)
    training = _prefixed({name: value for name, value in training_settings().items() if name != "schedule"})
    training["training.schedule"] = training_settings()["schedule"]
    return {**mapping_of({"recipe": ref("recipe_name"), **training, **explicit}, patterns), "required": ["recipe"]}


def _range() -> Schema:
    ends = {**list_of({"type": "number"}, 2), "maxItems": 2}
    parts: dict[str, Schema] = {"step": {"type": "number"}, "levels": {"type": "integer", "minimum": 1}}
    own = {part: {**schema, "description": PARTS[part]} for part, schema in parts.items()}
    kinds = [
        {**mapping_of({kind: {**ends, "description": what}, **own}), "required": [kind]} for kind, what in KINDS.items()
    ]
    words: dict[str, Schema] = {
        **{end: {"type": "number"} for end in ENDS},
        "log": {"type": "boolean"},
        "scale": {"enum": ["log", "linear"]},
    }
    return any_of(*kinds, {**mapping_of({**words, **own}), "minProperties": 2})


def _search(method: str) -> Schema:
    count: Schema = {"type": "integer", "minimum": 0}
    own: dict[str, Schema] = dict.fromkeys(METHODS[method], count)
    if "objectives" in own:
        own["objectives"] = list_of(
            any_of({"enum": list(OBJECTIVES)}, {**_TEXT, "pattern": rf"^{TIME_AT}\S+ +on +\S+$"})
        )
    share: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    rungs = any_of({"type": "integer", "minimum": 1}, list_of(share))
    own["halving"] = mapping_of({"eta": {"type": "integer", "minimum": 2}, "rungs": rungs})
    required = [key for key, default in METHODS[method].items() if default is None]
    described = _described(SearchFile, {"method": {"const": method}, **own})
    return {**mapping_of(described), "required": ["method", *required]}


def _described(model: type[BaseModel], keys: dict[str, Schema]) -> dict[str, Schema]:
    """The keys with the descriptions of the model's fields. A reference allows nothing beside it in draft 7."""
    about = {f.alias or name: f.description for name, f in model.model_fields.items()}
    wrapped = {key: {"allOf": [schema]} if "$ref" in schema else schema for key, schema in keys.items()}
    return {key: {**schema, "description": about[key]} if about.get(key) else schema for key, schema in wrapped.items()}
