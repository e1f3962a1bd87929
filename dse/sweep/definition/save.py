"""The key `save: weights`: what is kept of every trial beside its record."""

from __future__ import annotations

from collections.abc import Sequence

from dse.errors import nearest
from dse.sweep.language.source import Location

KINDS = {"weights": "the trained parameters, as weights/UID.safetensors in the results folder"}


def read_save(at: Location, raw: Sequence[str]) -> tuple[str, ...]:
    """The kinds that are kept. Raises UserError (file:line) for one that is unknown."""
    for kind in raw:
        if kind not in KINDS:
            raise at.error(f"save: there is no {kind!r}{nearest(str(kind), KINDS)}")
    return tuple(dict.fromkeys(raw))


__all__ = ["KINDS", "read_save"]
