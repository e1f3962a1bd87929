"""Checks of task and training options: a one-line error for a wrong type, an unknown word or a value out of range."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dse.errors import UserError, nearest


def choice(owner: str, option: str, value: object, choices: Iterable[str]) -> None:
    """Raise `UserError` unless `value` is one of the words `choices`."""
    words = tuple(choices)
    if value not in words:
        raise UserError(f"{owner}: {option} is {value!r}{nearest(value, words)}")


def flag(owner: str, option: str, value: object) -> None:
    """Raise `UserError` unless `value` is true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{owner}: {option} must be true or false, not {value!r}")


def meaningless(owner: str, option: str, value: object, why: str) -> None:
    """Raise the `UserError` for an option that is set where it does nothing."""
    raise UserError(f"{owner}: {option} is {value!r}, but {why}")


def text(owner: str, option: str, value: object) -> None:
    """Raise `UserError` unless `value` is a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise UserError(f"{owner}: {option} must be a name or a path, not {value!r}")


def number(owner: str, option: str, value: object, low: float = 0.0, high: float = math.inf) -> None:
    """Raise `UserError` unless `value` is a finite number with low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{owner}: {option} must be a number, not {value!r}")
    if not low <= value <= high:
        raise UserError(f"{owner}: {option} is {value}; valid: {_range(low, high)}")


def pair(owner: str, option: str, value: object) -> None:
    """Raise `UserError` unless `value` is a list or tuple of two numbers from 0 to 1."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise UserError(f"{owner}: {option} must be a list of two numbers, not {value!r}")
    for item in value:
        number(owner, option, item, 0.0, 1.0)


def integer(owner: str, option: str, value: object, low: int, high: float = math.inf) -> None:
    """Raise `UserError` unless `value` is a whole number with low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{owner}: {option} must be a whole number, not {value!r}")
    number(owner, option, value, low, high)


def _range(low: float, high: float) -> str:
    return f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
