"""The structure of a sweep file: its keys and the type of each. What the words mean is `spec`'s affair."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from dse.errors import UserError, nearest
from dse.sweep.source import Place, Source

_SEEDS = 1_000_000


def _named(value: Any) -> Any:
    """``lm`` -> {lm: {}}; {lm: {size: small}} stays."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, dict) and len(value) == 1:
        return {name: {} if options is None else options for name, options in value.items()}
    raise PydanticCustomError("sweep", "expected a name, or one {name: {option: value}}, found {found}", _found(value))


def _seeds(value: Any) -> Any:
    """A count n -> [0, ..., n - 1]; a list of distinct numbers stays."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= _SEEDS:
            raise PydanticCustomError(
                "sweep", "the number of seeds is {found}; valid: from 1 to 1000000", _found(value)
            )
        return list(range(value))
    if not isinstance(value, list):
        raise PydanticCustomError("sweep", "expected a number of seeds or a list of them, found {found}", _found(value))
    return value


def _nothing_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _nothing_is_no_list(value: Any) -> Any:
    return [] if value is None else value


Named = Annotated[dict[str, dict[str, Any]], BeforeValidator(_named)]
Options = Annotated[dict[str, Any], BeforeValidator(_nothing_is_empty)]
Values = Annotated[list[Any], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class SweepFile(BaseModel):
    """The keys of a sweep file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="names folders and runs")
    tasks: list[Named] = Field(min_length=1, description="a task's name, or {name: {option: value, training: {...}}}")
    recipes: list[Named] = Field(min_length=1, description="a recipe's name, or {label: {base: name, path: value}}")
    seeds: Annotated[list[Seed], Field(min_length=1), BeforeValidator(_seeds)] = Field(
        [0, 1, 2], description="a count n (0 .. n-1), or a list"
    )
    baseline: str = Field("bf16", description="the recipe every other one is compared with")
    training: Options = Field({}, description="training settings of every task")
    grid: Annotated[dict[str, Values], BeforeValidator(_nothing_is_empty)] = Field(
        {}, description="axis: [values]; a numerics path, training.<setting> or task.<option>"
    )
    exclude: Annotated[list[Options], BeforeValidator(_nothing_is_no_list)] = Field(
        [], description="partial cells to leave out, {axis: value}"
    )


_EXPECTED = {
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "int_type": "a whole number",
    "string_type": "text",
}


def parse(source: Source) -> SweepFile:
    """The file's structure. Raises UserError for the first (by line) key or value that does not fit."""
    try:
        return SweepFile.model_validate(source.data)
    except ValidationError as failed:
        errors = failed.errors(include_url=False, include_context=True)
        raise _first(source, errors) from None


def _first(source: Source, errors: list[ErrorDetails]) -> UserError:
    """The first by line; a missing key last, since a misspelt one is often the reason."""
    first = min(errors, key=lambda e: (e["type"] == "missing", source.line(tuple(e["loc"]))))
    return _translate(source, first)


def _translate(source: Source, error: ErrorDetails) -> UserError:
    """One line for one of pydantic's errors."""
    place: Place = tuple(error["loc"])
    owner = ".".join(str(key) for key in place if not isinstance(key, int))
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        text = f"unknown key {place[-1]!r}{nearest(place[-1], SweepFile.model_fields)}"
    elif kind == "missing":
        text = f"the key {place[-1]!r} is missing; a sweep needs at least tasks and recipes"
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
    return source.error(place, text)


def _found(value: Any) -> dict[str, str]:
    text = repr(value)
    return {"found": "nothing" if value is None else text if len(text) <= 60 else text[:57] + "..."}
