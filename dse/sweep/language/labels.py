"""Short readable text for option values, tasks and configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Label = str | int | float | bool | None
"""A value on an axis, as tables and legends show it; None where the axis does not apply (a baseline's numerics)."""

HEAD = ("task", "recipe", "seed")
"""The axes that every sweep has."""


def label_of(value: Any) -> Label:
    """{hadamard: {size: 32}} -> 'hadamard(size=32)', [0.9, 0.95] -> '[0.9, 0.95]', None -> 'none'; a scalar is itself.

    >>> label_of({"hadamard": {"size": 32, "signs": "fixed"}})
    'hadamard(size=32, signs=fixed)'
    """
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        parts = [f"{name}{_parameters(inner)}" for name, inner in value.items()]
        return parts[0] if len(parts) == 1 else "{" + ", ".join(parts) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text_of(item) for item in value) + "]"
    return value  # type: ignore[no-any-return]


def text_of(value: Any) -> str:
    """The label as text; numbers as short as they go without losing anything."""
    label = label_of(value)
    if isinstance(label, float):
        short = f"{label:g}"
        return short if float(short) == label else repr(label)
    return str(label)


def shorten(text: str, most: int = 80) -> str:
    """The text, or its beginning and its end where it is longer than ``most`` characters.

    >>> cut("a" * 50 + "b" * 50, 11)
    'aaaaa…bbbbb'
    """
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def format_call(name: str, parameters: Mapping[str, Any]) -> str:
    """``lm(size=small, steps=100)``, or just the name without parameters."""
    inner = ", ".join(f"{key}={text_of(value)}" for key, value in parameters.items())
    return f"{name}({inner})" if inner else name


def config_of(labels: Mapping[str, Label]) -> str:
    """The configuration that a cell's labels spell: the recipe and its overrides, without task and seed.

    >>> config_of({"task": "lm", "recipe": "mxfp4", "seed": 0, "G.rounding": "stochastic"})
    'mxfp4 G.rounding=stochastic'
    """
    own = [
        f"{axis}={text_of(label)}"
        for axis, label in labels.items()
        if label is not None and axis not in HEAD and not axis.startswith("task.")
    ]
    return " ".join([str(labels["recipe"]), *own])


def _parameters(inner: Any) -> str:
    if not inner and not isinstance(inner, int | float | str):
        return ""
    if isinstance(inner, Mapping):
        return "(" + ", ".join(f"{key}={text_of(value)}" for key, value in inner.items()) + ")"
    return f"={text_of(inner)}"
