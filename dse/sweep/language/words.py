"""Spellings of words and values that sweep files may use, and their normalization.

Upper case, hyphens for underscores, numbers in quotes, ``yes`` and ``no``, lists without brackets (``1e-3, 3e-3``) and
objects as a plan prints them (``hadamard(size=32)``) are understood where they can mean one thing only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

_CALL = re.compile(r"([A-Za-z_]\w*)\((.*)\)\Z", re.DOTALL)
_INTEGER = re.compile(r"[-+]?\d+\Z", re.ASCII)
_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\Z", re.ASCII | re.IGNORECASE)
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False}
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_DEEPEST = 20


def fold(word: str) -> str:
    """A word in lower case with underscores, which is the same for all of its spellings.

    >>> folded("NVFP4-4over6")
    'nvfp4_4over6'
    """
    return word.strip().casefold().replace("-", "_").replace(" ", "_")


def match_choice(word: Any, choices: Collection[str]) -> Any:
    """The choice that ``word`` is another spelling of; the word itself where it is a choice, or fits none or several.

    >>> meant("MXFP4", ["mxfp4", "nvfp4"])
    'mxfp4'
    """
    if not isinstance(word, str) or word in choices:
        return word
    found = [choice for choice in choices if fold(choice) == fold(word)]
    return found[0] if len(found) == 1 else word


def is_pattern(word: Any) -> bool:
    """Whether a word stands for several: ``all``, or with the wildcards ``*``, ``?`` and ``[...]``."""
    return isinstance(word, str) and (word.casefold() == "all" or any(sign in word for sign in "*?["))


def match_pattern(pattern: str, choices: Iterable[str]) -> list[str]:
    """The choices that a pattern stands for, in their order.

    >>> matching("nvfp4*", ["mxfp4", "nvfp4", "nvfp4_plain"])
    ['nvfp4', 'nvfp4_plain']
    """
    known = list(choices)
    if pattern.casefold() == "all":
        return known
    return [choice for choice in known if fnmatchcase(choice, pattern)] or [
        choice for choice in known if fnmatchcase(fold(choice), fold(pattern))
    ]


def split_list(text: str) -> list[str]:
    """The parts of a text between commas that stand in no bracket; a text without such a comma is its only part.

    >>> split("none, hadamard(size=16, signs=fixed)")
    ['none', 'hadamard(size=16, signs=fixed)']
    """
    parts, closing, start = [], [], 0
    for index, sign in enumerate(text):
        if sign in _PAIRS:
            closing.append(_PAIRS[sign])
        elif closing and sign == closing[-1]:
            closing.pop()
        elif sign == "," and not closing:
            parts.append(text[start:index])
            start = index + 1
    return [part.strip() for part in (*parts, text[start:])]


def parse_number(text: str) -> int | float | None:
    """The number that a text spells; None for any other text, and for numbers out of range.

    >>> number("1e-3"), number("16"), number("1e999")
    (0.001, 16, None)
    """
    if len(text) > 40:
        return None
    if _INTEGER.match(text):
        whole = int(text)
        return whole if abs(whole) < 2**63 else None
    if _DECIMAL.match(text):
        decimal = float(text)
        return decimal if math.isfinite(decimal) else None
    return None


def parse_boolean(value: Any) -> bool | None:
    """The truth value that a word spells, in the words of YAML 1.1; None for anything else."""
    return _BOOLEANS.get(value.casefold()) if isinstance(value, str) else None


def parse_scalar(text: str) -> Any:
    """A number, a truth value, nothing, or the text itself."""
    found: Any = parse_number(text)
    if found is None:
        found = {"true": True, "false": False}.get(text.casefold())
    if found is None and text.casefold() not in ("null", "~"):
        return text
    return found


def parse_call(text: Any, depth: int = 0) -> Any:
    """``hadamard(size=32)``, as plans and reports print an object, as ``{hadamard: {size: 32}}``; anything else stays.

    >>> call("hadamard(size=32, signs=fixed)")
    {'hadamard': {'size': 32, 'signs': 'fixed'}}
    >>> call("nearest_even"), call("f(x)")
    ('nearest_even', 'f(x)')
    """
    found = _CALL.match(text.strip()) if isinstance(text, str) else None
    if found is None or depth > _DEEPEST:
        return text
    parameters: dict[str, Any] = {}
    for part in split_list(found[2]) if found[2].strip() else []:
        name, equals, value = part.partition("=")
        if not equals or not name.strip().replace("_", "a").replace(".", "a").isalnum() or name.strip() in parameters:
            return text
        parameters[name.strip()] = _value(value.strip(), depth + 1)
    return {found[1]: parameters}


def _value(text: str, depth: int) -> Any:
    if text.startswith("[") and text.endswith("]") and depth < _DEEPEST:
        return [_value(part, depth + 1) for part in split_list(text[1:-1])] if text[1:-1].strip() else []
    made = parse_call(text, depth)
    return parse_scalar(text) if made is text else made


def _members() -> dict[str, str]:
    """Folded -> name, of every member of every family of techniques and every format."""
    from dse.numerics.registry import FAMILIES

    return _folded(sum(map(len, FAMILIES.values())))


@cache
def _folded(members: int) -> dict[str, str]:
    """``members``: how many techniques there are, which grows when a plugin is loaded."""
    from dse.numerics.registry import FAMILIES, FORMATS

    names = {name for family in FAMILIES.values() for name in family} | set(FORMATS)
    return {fold(name): name for name in names}


def canonical_technique(value: Any) -> Any:
    """The name of a technique or a format in its own spelling: ``E2M1`` -> 'e2m1'; of an object, that of its name."""
    if isinstance(value, str):
        return _members().get(fold(value), value)
    if isinstance(value, dict) and len(value) == 1:
        name, inner = next(iter(value.items()))
        return {_members().get(fold(name), name) if isinstance(name, str) else name: inner}
    return value


def is_technique(value: Any) -> bool:
    """Whether a value is an object, ``{hadamard: {size: 16}}``, by its name."""
    return isinstance(value, dict) and len(value) == 1 and fold(str(next(iter(value)))) in _members()


__all__ = [
    "canonical_technique",
    "fold",
    "is_pattern",
    "is_technique",
    "match_choice",
    "match_pattern",
    "parse_boolean",
    "parse_call",
    "parse_number",
    "parse_scalar",
    "split_list",
]
