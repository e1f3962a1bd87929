"""The key `places: [llama3-8b on b200]`: models on hardware at which reports state the time of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.cost.cost_places import CostPlace, cost_place
from dse.errors import UserError
from dse.sweep.language.source import Location


def read_places(items: Sequence[tuple[Location, Any]]) -> tuple[CostPlace, ...]:
    """The places in their order. Raises UserError (file:line) for one that is wrong, or there twice."""
    found: list[CostPlace] = []
    for at, item in items:
        try:
            own = cost_place(item, at.source.path.parent)
        except UserError as error:
            raise at.error(f"places: {error}") from None
        if own in found:
            raise at.error(f"places: {own} is listed twice")
        found.append(own)
    return tuple(found)


__all__ = ["read_places"]
