"""Descriptions in YAML files, checked by pydantic: what is wrong with one is told in one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dse.errors import UserError, nearest


class Described(BaseModel):
    """A part of a description: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


NonEmpty = Annotated[str, Field(min_length=1)]

D = TypeVar("D", bound=Described)


def read(path: Path, cls: type[D]) -> D:
    """The description in a file. Raises UserError (one line: file, key, what is wrong, the nearest valid key)."""
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except YAMLError as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        worst = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelled key is missing too
        raise UserError(f"{path}: {_line(cls, worst)}") from None


def find(name: str, folder: Path, cls: type[D], what: str) -> D:
    """A description by name from a folder of the package, or from a user's file if ``name`` ends in .yaml or .yml.

    Raises UserError for an unknown name, with the nearest one, and for a description that is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return read(Path(name), cls)
    names = names_in(folder)
    if name not in names:
        raise UserError(f"unknown {what} {name!r}{nearest(name, names)}; or name a .yaml file of your own")
    return read(folder / f"{name}.yaml", cls)


def names_in(folder: Path) -> list[str]:
    """The names of a folder's descriptions, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _line(cls: type[BaseModel], error: ErrorDetails) -> str:
    """One line for one of pydantic's errors."""
    where = ".".join(str(key) for key in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}{nearest(error['loc'][-1], _keys(cls))}"
    if error["type"] == "missing":
        return f"{where}: is missing"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: {text}, found {_short(error['input'])}" if where else text


def _keys(cls: type[BaseModel], seen: frozenset[type] = frozenset()) -> Iterable[str]:
    """The keys of a description and of its parts."""
    for name, field in cls.model_fields.items():
        yield name
        for part in _classes(field.annotation):
            if part not in seen:
                yield from _keys(part, seen | {cls, part})


def _classes(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _classes(inner)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


__all__ = ["Described", "NonEmpty", "find", "names_in", "read"]
