"""Errors a user can mend: one line that says what, where, and the nearest valid choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import ClassVar, TypeVar

V = TypeVar("V")


class UserError(Exception):
    """A mistake in the input, not in the program. The CLI prints its one line and exits with ``exit_code``."""

    exit_code: ClassVar[int] = 2


class CommandFailed(UserError):
    """The input is right, and what it asked for failed: a check of the installation, a program that was started."""

    exit_code: ClassVar[int] = 1


class OptionError(UserError):
    """A numerics option that is unknown, mistyped, or has no meaning for the recipe it is applied to."""


class CalibrationError(UserError):
    """Calibration data from which a post-training method cannot quantize a layer: too little, none, or not finite."""


class UnknownName(UserError, KeyError):
    """A name that a registry does not have; a ``KeyError`` too, as of any mapping."""

    __str__ = Exception.__str__  # KeyError's puts the message in quotes


class Lookup(dict[str, V]):
    """Objects of one kind by their names. ``lookup[name]`` raises UnknownName, which names the nearest."""

    def __init__(self, kind: str, entries: Mapping[str, V] = MappingProxyType({})) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> V:
        raise UnknownName(f"unknown {self.kind} {name!r}{nearest(name, self)}")


def nearest(word: object, choices: Iterable[str]) -> str:
    """The tail of an error message that names the nearest valid choice, or lists the choices when none is near.

    >>> nearest("mxfp44", ["mxfp4", "nvfp4"])
    "; did you mean 'mxfp4'?"
    >>> nearest("zebra", ["mxfp4", "nvfp4"])
    '; valid: mxfp4, nvfp4'
    """
    names = sorted(set(choices))
    close = get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; valid: {shown}" if names else ""
