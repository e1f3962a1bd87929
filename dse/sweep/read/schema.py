"""Structure of a sweep file as pydantic models: its keys, and the type of each. `spec` interprets the values."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from dse.errors import UserError, nearest
from dse.sweep.language.source import KeyPath, Location, YamlSource

_SEEDS = 1_000_000


def _named(value: Any) -> Any:
    """``lm`` -> {lm: {}}; {lm: {size: small}} stays."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, dict) and len(value) == 1:
        return {name: {} if options is None else options for name, options in value.items()}
    text = "expected a name, or one {name: {option: value}}, found {found}"
    if isinstance(value, dict) and "base" in value:
        text = "a changed recipe needs a name of its own: {mine: {base: nvfp4, ...}}; found {found}"
    raise PydanticCustomError("sweep", text, _found(value))


def _seeds(value: Any) -> Any:
    """A count n -> [0, ..., n - 1]; a list of distinct numbers stays."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= _SEEDS:
            raise PydanticCustomError(
                "sweep", "the number of seeds is {found}; valid: from 1 to 1000000", _found(value)
            )
        return list(range(value))
    if not isinstance(value, list):
        text = "expected a number of seeds or a list of them, found {found}; seeds: 5 means [0, 1, 2, 3, 4]"
        raise PydanticCustomError("sweep", text, _found(value))
    return value


def _values(value: Any) -> Any:
    """A list of values, or a range, which is a mapping and looked at later."""
    if isinstance(value, list):
        if not value:
            raise PydanticCustomError("sweep", "the list is empty", {})
    elif not isinstance(value, dict):
        text = "expected a list, or a range such as {uniform: [0, 1]}, found {found}"
        raise PydanticCustomError("sweep", text, _found(value))
    return value


def _one_or_more(value: Any) -> Any:
    """Nothing -> [], one -> [one], a list stays."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _nothing_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _nothing_is_no_list(value: Any) -> Any:
    return [] if value is None else value


Named = Annotated[dict[str, dict[str, Any]], BeforeValidator(_named)]
OptionsBlock = Annotated[dict[str, Any], BeforeValidator(_nothing_is_empty)]
GridValues = Annotated[Any, BeforeValidator(_values)]
Listed = Annotated[list[Any], Field(min_length=1)]
Grid = Annotated[dict[str, GridValues], BeforeValidator(_nothing_is_empty)]
Zips = Annotated[list[dict[str, Listed]], BeforeValidator(_one_or_more)]
Rules = Annotated[list[OptionsBlock], BeforeValidator(_nothing_is_no_list)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

_CONFIG = ConfigDict(extra="forbid", strict=True, frozen=True)
_GRID = "axis: [values] or a range; a numerics path, training.<setting> or task.<option>"
_ZIP = "axes that go together, {axis: [values], axis: [values]}, or a list of such groups"
_WHEN = "axes for some cells only, {if: {axis: value}, grid: {...}, zip: {...}}"


class AxesBlock(BaseModel):
    """Axes: what a sweep, a task of it or an item of `when` may vary."""

    model_config = _CONFIG

    grid: Grid = Field({}, description=_GRID)
    zip: Zips = Field([], description=_ZIP)


class TaskBlock(AxesBlock):
    """What stands beside a task's options."""

    training: OptionsBlock = Field({}, description="training settings of this task alone")
    when: Rules = Field([], description=_WHEN)


class EntryBlock(TaskBlock):
    """What stands beside the options of an item of `tasks`."""

    start: Any = Field(
        None,
        description="whose trained weights it starts from: a recipe, or {from: recipe, option: value, training: {}}",
    )


class WhenBlock(AxesBlock):
    """An item of `when`."""

    condition: OptionsBlock = Field(
        {}, alias="if", description="{axis: value}, {axis: [values]} or {axis: {not: value}}"
    )


class SearchFile(BaseModel):
    """The keys of `search`."""

    model_config = _CONFIG

    method: str = Field("", description="how configurations are chosen")
    trials: int = Field(0, description="configurations to try on each task; each runs with every seed")
    seed: int = Field(0, description="of the choice of configurations")
    batch: int = Field(0, description="configurations asked for at once")
    startup: int = Field(0, description="configurations chosen before any result counts")
    population: int = Field(0, description="configurations in a generation")
    objectives: Listed = Field([], description="what is minimized")
    halving: Any = Field(None, description="who stops early: {eta: 3, rungs: [0.1, 0.3]}")


class SweepFile(TaskBlock):
    """The keys of a sweep file."""

    include: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(
        [], description="other sweep files, relative to this one, whose keys this one adds to"
    )
    plugins: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(
        [], description="files or modules with techniques and recipes of one's own, relative to this file: ./mine.py"
    )
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="names folders and runs")
    tasks: list[Named] = Field([], min_length=1, description="a task's name, or {name: {option: value, training: {}}}")
    recipes: list[Named] = Field([], min_length=1, description="a recipe's name, or {label: {base: name, path: value}}")
    seeds: Annotated[list[Seed], Field(min_length=1), BeforeValidator(_seeds)] = Field(
        [0, 1, 2], description="a count n (0 .. n-1), or a list"
    )
    baseline: Annotated[list[Any], Field(min_length=1), BeforeValidator(_one_or_more)] = Field(
        ["bf16"], description="what every cell is compared with: a recipe, {recipe: name, path: value}, or several"
    )
    training: OptionsBlock = Field({}, description="training settings of every task")
    exclude: Rules = Field([], description="partial cells to leave out, {axis: value}")
    search: OptionsBlock = Field({}, description="how configurations are chosen from the axes")
    probes: OptionsBlock = Field({}, description="when and where trainings are looked into: {every: 50, layers: '*'}")
    places: Annotated[list[Any], Field(min_length=1), BeforeValidator(_one_or_more)] = Field(
        ["llama3-8b on b200"], description="models on hardware at which reports state the time of a training step"
    )
    save: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(
        [], description="what is kept of every trial beside its record: weights"
    )


_EXPECTED = {
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "int_type": "a whole number",
    "string_type": "text",
}

M = TypeVar("M", bound=BaseModel)


def parse(source: YamlSource) -> SweepFile:
    """The file's structure. Raises UserError for the first (by line) key or value that does not fit."""
    return checked(SweepFile, source.data, Location(source))


def checked(model: type[M], data: Any, at: Location, section: str = "") -> M:
    """``data`` as a ``model``. Raises UserError for the first (by line) key or value that does not fit."""
    try:
        return model.model_validate(data)
    except ValidationError as failed:
        errors = failed.errors(include_url=False, include_context=True)
        first = min(errors, key=lambda e: at.source.line((*at.place, *e["loc"])))
        raise _translate(model, first, at, section) from None


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a mapping as they are written in YAML."""
    return [f.alias or name for name, f in model.model_fields.items()]


def _translate(model: type[BaseModel], error: ErrorDetails, at: Location, section: str) -> UserError:
    """One line for one of pydantic's errors."""
    loc: KeyPath = tuple(error["loc"])
    owner = ".".join([section] * bool(section) + [str(key) for key in loc if not isinstance(key, int)])
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        tail = nearest(loc[-1], keys_of(model))
        if loc == ("seed",) and model is SweepFile:
            tail = f"; write seeds: [{value}] for this seed, or seeds: {value} for so many"
        text = f"{section}: " * bool(section) + f"unknown key {loc[-1]!r}{tail}"
    elif kind == "too_short":
        text = f"{owner}: the list is empty"
    elif kind == "string_pattern_mismatch":
        text = f"{owner}: {value!r} must begin with a letter or digit and hold only those, '.', '_' and '-'"
    elif kind in _EXPECTED:
        text = f"{owner}: expected {_EXPECTED[kind]}, found {_found(value)['found']}".removeprefix(": ")
    elif kind in ("greater_than_equal", "less_than"):
        text = f"{owner}: {value} is out of range; valid: from 0 to {2**32 - 1}"
    elif kind == "sweep":
        text = f"{owner}: {error['msg']}"
    else:
        text = f"{owner}: {error['msg']}, found {_found(value)['found']}"
    return Location(at.source, (*at.place, *loc)).error(text)


def _found(value: Any) -> dict[str, str]:
    text = repr(value)
    return {"found": "nothing" if value is None else text if len(text) <= 60 else text[:57] + "..."}
