"""Registries of every family, and the one translation between objects and plain data (YAML, JSON).

An object of a family is written as its registry name, or ``{name: {parameter: value}}`` when parameters differ from
their defaults. Fields equal to their default are left out, so a default added later does not change old identities. A
technique whose numbers have changed says so in a class variable ``arithmetic`` (2, 3 ...; 1 is left out), which stands
among its parameters as ``arithmetic: 2``: results of before then belong to other trials.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from dse.errors import OptionError, nearest
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES, Format
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import BFloat16, Identity, Quantizer
from dse.numerics.techniques.accumulations import ACCUMULATIONS, Accumulation
from dse.numerics.techniques.balances import BALANCES, Balance
from dse.numerics.techniques.branches import BRANCHES, Branch
from dse.numerics.techniques.choices import CHOICES, Choice
from dse.numerics.techniques.conventions import CONVENTIONS, Convention
from dse.numerics.techniques.corrections import CORRECTIONS, Correction
from dse.numerics.techniques.decompositions import DECOMPOSITIONS, Decomposition
from dse.numerics.techniques.outliers import OUTLIERS, Outliers
from dse.numerics.techniques.post import POST_TRAINING, PostTraining
from dse.numerics.techniques.rotations import ROTATIONS, Rotation
from dse.numerics.techniques.rounding import ROUNDINGS, Rounding
from dse.numerics.techniques.scale_searches import SCALE_SEARCHES, ScaleSearch
from dse.numerics.techniques.schedules import SCHEDULES, Schedule
from dse.numerics.techniques.slopes import SLOPES, Slope
from dse.numerics.techniques.statistics import STATISTICS, Statistic
from dse.numerics.techniques.tensor_scales import TENSOR_SCALES, TensorScale
from dse.numerics.techniques.weights import WEIGHT_RULES, WeightRule
from dse.numerics.value_formats import ValueFormat, value_data, value_format

QUANTIZERS: dict[str, type[Quantizer]] = {"identity": Identity, "bf16": BFloat16, "block": BlockQuantizer}

FAMILIES: dict[type, Mapping[str, type]] = {
    Quantizer: QUANTIZERS,
    Rounding: ROUNDINGS,
    Slope: SLOPES,
    Statistic: STATISTICS,
    TensorScale: TENSOR_SCALES,
    Rotation: ROTATIONS,
    Convention: CONVENTIONS,
    Outliers: OUTLIERS,
    Choice: CHOICES,
    Correction: CORRECTIONS,
    Accumulation: ACCUMULATIONS,
    WeightRule: WEIGHT_RULES,
    Decomposition: DECOMPOSITIONS,
    Schedule: SCHEDULES,
    PostTraining: POST_TRAINING,
    Balance: BALANCES,
    ScaleSearch: SCALE_SEARCHES,
    Branch: BRANCHES,
}
"""Abstract base -> YAML name -> class. A new technique is one file and one entry in its family's dict."""

FORMATS: dict[str, Format] = {**ELEMENTS, **SCALES}


def to_data(obj: Any) -> Any:
    """Canonical plain data. Fields marked ``metadata={"label": True}`` are for people and left out."""
    if isinstance(obj, ValueFormat):
        return value_data(obj)
    if isinstance(obj, Format):
        return obj.name
    if is_dataclass(obj) and not isinstance(obj, type):
        own = {f.name: to_data(getattr(obj, f.name)) for f in fields(obj) if _counts(obj, f)}
        if (version := _arithmetic(type(obj))) > 1:
            own["arithmetic"] = version
        family = _family(type(obj))
        if family is None:
            return own
        name = next(n for n, cls in family.items() if cls is type(obj))
        return {name: own} if own else name
    if isinstance(obj, tuple | list):
        return [to_data(item) for item in obj]
    return obj


def from_data(owner: type, name: str, data: Any, where: str) -> Any:
    """The value for field ``name`` of dataclass ``owner`` that ``data`` describes.

    Raises OptionError ('where: ...') for an unknown name, a wrong type or a parameter out of range.
    """
    return _build(_hints(owner)[name], owner, name, data, where)


def build(cls: type, data: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping of its fields; every other field keeps its default."""
    known, version = [f.name for f in fields(cls)], _arithmetic(cls)
    if version > 1 and "arithmetic" in data:
        if data["arithmetic"] != version:
            raise OptionError(
                f"{where}.arithmetic: {data['arithmetic']!r} is no longer computed, only {version}; leave it out"
            )
        data = {key: value for key, value in data.items() if key != "arithmetic"}
    for key in data:
        if key not in known:
            raise OptionError(f"{where}: {cls.__name__} has no option {key!r}{nearest(key, known)}")
    try:
        return cls(**{key: from_data(cls, key, value, f"{where}.{key}") for key, value in data.items()})
    except OptionError as error:
        text = str(error)
        raise OptionError(text if text.startswith(where) else f"{where}: {text}") from None


def _build(kind: Any, owner: type, name: str, data: Any, where: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        options = [k for k in get_args(kind) if k is not type(None)]
        if data is None or (data == "none" and type(None) in get_args(kind)):
            return None
        return _build(options[0], owner, name, data, where)
    if kind is Format:
        if name != "scale" and isinstance(data, Mapping):
            return _values(data, where)
        pool = SCALES if name == "scale" else ELEMENTS
        return _lookup(pool, data, f"{name} format", where)
    if kind in FAMILIES:
        return _member(FAMILIES[kind], words(kind), data, where)
    if get_origin(kind) is tuple:
        if not isinstance(data, list | tuple):
            raise OptionError(f"{where}: expected a list, found {data!r}")
        return tuple(_build(get_args(kind)[0], owner, name, item, where) for item in data)
    if is_dataclass(kind):
        if not isinstance(data, Mapping):
            raise OptionError(f"{where}: expected a mapping, found {data!r}")
        return build(kind, data, where)  # type: ignore[arg-type]
    return _scalar(kind, data, where)


def _values(data: Mapping[str, Any], where: str) -> Format:
    values = data.get("values")
    if len(data) != 1 or not isinstance(values, list | tuple):
        raise OptionError(f"{where}: write a list of values as {{values: [0, .5, 1 ...]}}, found {dict(data)!r}")
    try:
        return value_format([_plain(float, v) for v in values])
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from None


def _member(family: Mapping[str, type], kind: str, data: Any, where: str) -> Any:
    if isinstance(data, Mapping):
        if len(data) != 1:
            raise OptionError(f"{where}: write one {kind} as {{name: {{parameter: value}}}}, found {dict(data)!r}")
        name, parameters = next(iter(data.items()))
        cls = _lookup(family, name, kind, where)
        if not isinstance(parameters, Mapping | None):
            raise OptionError(f"{where}: the parameters of {name!r} must be a mapping, found {parameters!r}")
        return build(cls, parameters or {}, where)
    return _lookup(family, data, kind, where)()


def words(family: type) -> str:
    """The name of a family in a message: 'tensor scale' for TensorScale."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", family.__name__).lower()


def _lookup(pool: Mapping[str, Any], name: Any, kind: str, where: str) -> Any:
    if isinstance(name, str) and name not in pool:
        name = next((own for own in pool if own == name.casefold().replace("-", "_")), name)
    if not isinstance(name, str) or name not in pool:
        raise OptionError(f"{where}: unknown {kind} {name!r}{nearest(name, pool)}")
    return pool[name]


def _scalar(kind: Any, data: Any, where: str) -> Any:
    data = _plain(kind, data)
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if kind in (int, str, bool) and type(data) is kind:
        return data
    raise OptionError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {data!r}")


def _plain(kind: Any, data: Any) -> Any:
    """A number in quotes, a whole decimal and YAML 1.1's yes and no, as the type that is asked for."""
    if isinstance(data, str) and kind in (int, float) and _NUMBER.match(data):
        data = float(data) if not _NUMBER.match(data)[1] else int(data)  # type: ignore[index]
    if isinstance(data, str) and kind is bool:
        return _BOOLEANS.get(data.casefold(), data)
    return data


_NUMBER = re.compile(
    r"(?:([-+]?\d{1,18})|[-+]?(?:\d{1,18}\.?\d{0,18}|\.\d{1,18})(?:e[-+]?\d{1,2})?)\Z", re.ASCII | re.IGNORECASE
)
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": False}


@cache
def _hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner)


def _family(cls: type) -> Mapping[str, type] | None:
    return next((registry for base, registry in FAMILIES.items() if issubclass(cls, base)), None)


def _arithmetic(cls: type) -> int:
    """The version of a technique's numbers."""
    return int(getattr(cls, "arithmetic", 1))


def _counts(obj: Any, f: Field[Any]) -> bool:
    """Whether a field belongs in the canonical form: not a label, and different from its default."""
    if f.metadata.get("label"):
        return False
    value = getattr(obj, f.name)
    if f.default is not MISSING:
        return bool(value != f.default)
    if f.default_factory is not MISSING:
        return bool(value != f.default_factory())
    return True


__all__ = ["FAMILIES", "FORMATS", "QUANTIZERS", "Gemm", "build", "from_data", "to_data", "words"]
