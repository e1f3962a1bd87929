"""Everything that is registered, and variants of it: each parameter once away from its default, found by itself.

A new technique is covered from the moment it is registered: nothing here names one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dse.errors import OptionError
from dse.numerics.attention import Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, ELEMENTS, SCALES, UE4M3, Format
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import Recipe
from dse.numerics.registry import FAMILIES, to_data
from dse.numerics.techniques.post import PostTraining
from dse.numerics.techniques.tensor_scales import Current
from dse.numerics.validate import reasons

MEMBERS: list[tuple[type, str, Any]] = [
    (base, name, cls) for base, family in FAMILIES.items() for name, cls in family.items()
]
MEMBER_IDS = [f"{base.__name__}-{name}" for base, name, _ in MEMBERS]
NUMBERS = (0.25, 0.75, 0.9, 2.0, 3.0, 5.0, 16.0, 100.0)


def holder(base: type) -> tuple[type, str]:
    """The dataclass and the field that holds a member of a family."""
    for owner in (BlockQuantizer, Gemm, Recipe, PostTraining):
        for name, hint in get_type_hints(owner).items():
            if base in (hint, *get_args(hint)):
                return owner, name
    raise AssertionError(f"{base.__name__} is an option of nothing")


def variants(cls: Any) -> list[Any]:
    """The default, then for each field an object with another value of it; for a string, with every other word."""
    hints = get_type_hints(cls)
    found = [cls()]
    for f in fields(cls):
        changed = list(accepted(cls, f.name, hints[f.name], getattr(found[0], f.name)))
        assert changed, f"no other value found for {cls.__name__}.{f.name}"
        words = hints[f.name] is str or get_origin(hints[f.name]) is Literal
        found += changed if words else changed[:1]
    return found


def accepted(cls: Any, name: str, hint: Any, default: Any) -> Iterator[Any]:
    """Objects with other values of one field."""
    for value in others(cls, name, hint, default):
        try:
            if value != default:
                yield cls(**{name: value})
        except OptionError:
            continue


def others(cls: Any, name: str, hint: Any, default: Any) -> list[Any]:
    """Values to try; the words of a string option are those that its error message lists."""
    if get_origin(hint) is tuple:
        return [(value,) for value in others(cls, name, get_args(hint)[0], None)]
    kind = hint if get_origin(hint) is Literal else next(k for k in (get_args(hint) or (hint,)) if k is not type(None))
    if kind in FAMILIES:
        return [member() for member in FAMILIES[kind].values()]
    if kind is Format:
        return list((SCALES if name == "scale" else ELEMENTS).values())
    if kind is bool:
        return [not default]
    if kind is Product:
        return [Product()]
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if kind is str:
        try:
            cls(**{name: "no such word"})
        except OptionError as error:
            return re.findall(r"\w+", str(error))
        raise AssertionError(f"{cls.__name__}.{name} takes any word")
    return [kind(v) for v in (*NUMBERS, -1, 0) if kind is float or v == int(v)]


BASES = (
    BlockQuantizer(),
    BlockQuantizer(E2M1, UE4M3, 16),
    BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current(256.0), scale_gradient="full"),
)
"""Quantizers that a technique is put into."""


def quantizers() -> Iterator[tuple[str, list[BlockQuantizer]]]:
    """(what, quantizers that have a meaning) for every variant of every technique, format and own option."""
    for f in fields(BlockQuantizer):
        for value in values_of(f.name):
            if fitting := [q for q in placed(f.name, value) if not refused(q)]:
                yield f"{f.name}={label(value)}", fitting


def values_of(name: str) -> list[Any]:
    """All values of one option of a block quantizer: every variant of every member of its family."""
    hint = get_type_hints(BlockQuantizer)[name]
    kind = next(k for k in (get_args(hint) or (hint,)) if k is not type(None))
    if kind in FAMILIES:
        return [v for cls in FAMILIES[kind].values() for v in variants(cls)]
    known = {
        "block": [0, 1, 5, 32],
        "tile": [0, 3, 16],
        "constant": [4.0],
        "gain": [0.75],
        "micro_exponents": [(8, 4), (4,)],
    }
    return known[name] if name in known else others(BlockQuantizer, name, hint, None)


def placed(name: str, value: Any) -> Iterator[BlockQuantizer]:
    """The bases with that value, and whatever else it needs to have a meaning."""
    for base in BASES:
        for needs in (
            {"scale": SCALES["e8m0"]},
            {"tensor_scale": Current(2.0, "exact")},
            {"scale_gradient": "full"},
            {},
        ):
            try:
                yield replace(base, **{**needs, name: value})
            except OptionError:
                continue


def refused(q: Quantizer) -> bool:
    return any(reasons(Recipe(fprop=Gemm(q, q))))


def label(value: Any) -> str:
    return str(to_data(value) if not isinstance(value, float) or math.isfinite(value) else value)


FITTING = dict(quantizers())
QUANTIZERS = {what: fitting[-1] for what, fitting in FITTING.items()}
