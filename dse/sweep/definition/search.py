"""The key `search`: the method by which configurations are chosen from the axes, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dse.cost.cost_places import cost_place
from dse.errors import UserError, nearest
from dse.sweep.definition.halving import Halving, read_halving
from dse.sweep.language.source import Location
from dse.sweep.read.schema import SearchFile, checked

METHODS: dict[str, dict[str, Any]] = {
    "grid": {},
    "random": {"trials": None, "seed": 0},
    "qmc": {"trials": None, "seed": 0},
    "tpe": {"trials": None, "seed": 0, "batch": 16, "startup": 32, "objectives": ("gap", "overhead")},
    "nsga2": {"trials": None, "seed": 0, "batch": 16, "population": 48, "objectives": ("gap", "overhead")},
}
"""Method -> its settings and their defaults; None is required. grid: every combination, ranges at their levels;
random and qmc: configurations that need no results, so they are known in advance; tpe and nsga2: asked in batches."""

OBJECTIVES = {
    "gap": "accuracy lost against the baseline",
    "overhead": "cost beside the GEMMs",
    "time": "time of a training step of Llama-3 8B on a B200, BF16 = 1; elsewhere: time at llama3-70b on gb200",
}
TIME_AT = "time at "
"""Begins the objective of the time of a step at a place: 'time at llama3-70b on gb200'."""

_LIMITS = {"trials": 1_000_000, "seed": 2**32 - 1, "batch": 100_000, "startup": 1_000_000, "population": 100_000}


@dataclass(frozen=True)
class Search:
    """The method and its settings; those that a method does not have are None.

    - ``trials``: configurations to try on each task; each runs with every seed of the sweep;
    - ``seed``: of the choice; ``batch``: configurations asked for at once;
    - ``startup`` (tpe): configurations chosen before any result counts; ``population`` (nsga2): in a generation;
    - ``objectives``: what is minimized, of OBJECTIVES; ``halving``: who stops early.
    """

    method: str = "grid"
    trials: int | None = None
    seed: int | None = None
    batch: int | None = None
    startup: int | None = None
    population: int | None = None
    objectives: tuple[str, ...] | None = None
    halving: Halving | None = None

    @property
    def needs_results(self) -> bool:
        """Whether what is asked next depends on the results so far."""
        return "batch" in METHODS[self.method]


def read_search(at: Location, raw: Mapping[str, Any]) -> Search:
    """The mapping under `search`. Raises UserError (file:line) for what is unknown, missing or without meaning."""
    file = checked(SearchFile, raw, at, "search")
    if "method" not in raw:
        raise at.error(f"search: the method is missing{nearest('', METHODS)}")
    if file.method not in METHODS:
        raise (at / "method").error(f"search: unknown method {file.method!r}{nearest(file.method, METHODS)}")
    known = METHODS[file.method]
    halving = read_halving(at / "halving", raw["halving"]) if "halving" in raw else None
    for key in raw:
        if key not in ("method", "halving") and key not in known:
            raise (at / key).error(f"search: {key} has no meaning for method {file.method}{nearest(key, known)}")
    values: dict[str, Any] = {"method": file.method, "halving": halving, **known}
    for key in known:
        if key in raw:
            values[key] = _objectives(at / key, raw[key]) if key == "objectives" else _count(at / key, key, raw[key])
        elif known[key] is None:
            raise at.error(f"search: method {file.method} needs {key}, how many configurations to try on each task")
    return Search(**values)


def _count(at: Location, key: str, value: Any) -> int:
    low = 0 if key == "seed" else 2 if key == "population" else 1
    if not isinstance(value, int) or not low <= value <= _LIMITS[key]:
        raise at.error(f"search: {key} is {value!r}; valid: from {low} to {_LIMITS[key]}")
    return value


def _objectives(at: Location, value: list[Any]) -> tuple[str, ...]:
    for index, name in enumerate(value):
        if isinstance(name, str) and name.startswith(TIME_AT):
            try:
                cost_place(name.removeprefix(TIME_AT))
            except UserError as error:
                raise (at / index).error(f"search: objective {name!r}: {error}") from None
        elif not isinstance(name, str) or name not in OBJECTIVES:
            raise (at / index).error(f"search: unknown objective {name!r}{nearest(name, OBJECTIVES)}")
        if name in value[:index]:
            raise (at / index).error(f"search: the objective {name!r} is listed twice")
    return tuple(value)
