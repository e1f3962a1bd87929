"""Paths of options: the quantization points they name, and how the nested field behind them is set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

from dse.errors import OptionError, nearest
from dse.numerics.attention import PRODUCTS
from dse.numerics.formats import Format
from dse.numerics.points import GEMMS, POINTS
from dse.numerics.registry import from_data

SELECTORS: dict[str, tuple[str, ...]] = {
    "*": POINTS,
    "X": ("fprop.lhs", "wgrad.rhs"),
    "W": ("fprop.rhs", "dgrad.rhs"),
    "G": ("dgrad.lhs", "wgrad.lhs"),
    "forward": ("fprop.lhs", "fprop.rhs"),
    "backward": POINTS[2:],
    **{gemm: (f"{gemm}.lhs", f"{gemm}.rhs") for gemm in GEMMS},
    **{point: (point,) for point in POINTS},
}
"""What the first part of an option's path may say, and the points that it stands for."""


def split(option_path: str, path: str, others: Iterable[str]) -> tuple[str, list[str]]:
    """'wgrad.rhs.rounding' -> ('wgrad.rhs', ['rounding']); the longest selector wins; a bare point is a quantizer.

    ``path``: how messages call it; ``others``: what else its first part might have meant.
    """
    parts = option_path.split(".")
    for n in (2, 1):
        selector = ".".join(parts[:n])
        if selector in SELECTORS and len(parts) > n:
            return selector, parts[n:]
    if option_path in POINTS:
        return parts[0], [parts[1]]
    if parts[0] not in SELECTORS:
        raise OptionError(f"{path}: no quantization point {parts[0]!r}{nearest(parts[0], [*SELECTORS, *others])}")
    raise OptionError(f"{path}: names no option; write for example {path}.rounding")


def has(obj: object, name: str) -> bool:
    return is_dataclass(obj) and name in names(obj)


def reaches(obj: object, option: list[str]) -> bool:
    """Whether every part of a nested option exists: ``rounding.bits`` does where the rounding is stochastic."""
    head, *rest = option
    return has(obj, head) and (not rest or reaches(getattr(obj, head), rest))


def names(obj: object) -> Iterable[str]:
    return [f.name for f in fields(obj)] if is_dataclass(obj) else []


def set_option(obj: Any, option: list[str], data: Any, path: str) -> Any:
    """``obj`` with the nested field ``option`` replaced by the object that ``data`` describes."""
    head, *rest = option
    if obj is None:
        raise OptionError(f"{path}: the recipe has none there, so {head!r} has no meaning; set the whole object first")
    if isinstance(obj, Format):  # a format is known by its name alone: another mantissa is another format
        raise OptionError(f"{path}: a format is chosen as a whole, by its name, not by its {head!r}")
    if not has(obj, head):
        raise OptionError(f"{path}: {type(obj).__name__} has no option {head!r}{nearest(head, names(obj))}")
    if rest:
        return replace(obj, **{head: set_option(getattr(obj, head), rest, data, path)})
    value = from_data(type(obj), head, data, path)
    try:
        return replace(obj, **{head: value})
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None


_LAST = 100
"""Above any depth."""


@cache
def precedence(path: str) -> tuple[int, int]:
    """Depth of the option, then minus the number of points: sorts the general before the specific.

    Attention's options come after the linears', since 'same' copies what these have then; those of rules come last.
    """
    parts = path.split(".")
    if parts[0] == "layers":
        depth, few = precedence(".".join(parts[2:])) if parts[2:] else (-2 + len(parts) - 1, 0)
        return 4 * _LAST + depth, few
    if parts[0] == "attention":
        named = parts[1:2] != [] and parts[1] in PRODUCTS
        inner = parts[1 + named :]
        depth, few = precedence(".".join(inner)) if inner else (-1, 0)
        return _LAST + 2 * depth + named, few
    if path in SELECTORS:  # whole quantizers
        return 0, -len(SELECTORS[path])
    for n in (2, 1):
        points = SELECTORS.get(".".join(parts[:n]))
        if points is not None:
            return len(parts) - n, -len(points)
    return len(parts), 0


__all__ = ["SELECTORS", "has", "precedence", "reaches", "set_option", "split"]
