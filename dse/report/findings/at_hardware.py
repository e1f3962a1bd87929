"""Finding: which configurations are on the front of accuracy against the time of a step, at each place."""

from __future__ import annotations

from collections.abc import Sequence

from dse.number_format import SPACE, probability
from dse.report.analysis.place_draws import SURE, OnFront, PlaceDraws
from dse.report.analysis.short_names import few
from dse.report.findings.finding import Finding
from dse.text import listing

_MOST = 4


def fronts_at_places(found: Sequence[PlaceDraws]) -> Finding | None:
    """A sentence a place: robustly on the front, or sometimes."""
    if not found:
        return None
    first, *others = found
    how = (
        f"Robustly: in {100 * SURE:g}{SPACE}% or more of the draws that the seeds leave possible, with fused kernels "
        "and with separate ones. Sometimes: in fewer, or under one assumption; in brackets, the shares of draws, from "
        "the less favorable assumption to the other. The table of the front goes by the means alone."
    )
    return Finding("Accuracy against time", _sentence(first), [*map(_sentence, others), *[how] * found[0].known])


def _sentence(place: PlaceDraws) -> str:
    if not place.known:
        members = _named([one.config for one in place.members])
        return f"{place.title}: on the front by the means {members}; one seed gives no probability."
    sure, other = place.robustly, place.sometimes
    text = f"{place.title}: on the front robustly {_named([one.config for one in sure])}"
    return f"{text}; sometimes {_named([f'{one.config} ({_share(one)})' for one in other])}." if other else f"{text}."


def _named(names: list[str]) -> str:
    return listing(few(names, _MOST)) if names else "none"


def _share(one: OnFront) -> str:
    low, high = probability(one.least), probability(one.most)
    return low if low == high else f"{low} to {high}"


__all__ = ["fronts_at_places"]
