"""Generated pictures of a record, and their distance from those of its baseline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.tasks.pictures import Pictures

MADE, REAL = "made", "real"


def pictures(record: Record | None, kind: str = MADE) -> Pictures | None:
    """Those that the trained model made, or real ones; None where the record has none that can be read."""
    if record is None or kind not in record.samples:
        return None
    from dse.tasks.pictures import Pictures

    try:
        return Pictures.parse(record.samples[kind])
    except (ValueError, KeyError, TypeError):
        return None


def distance(record: Record, baseline: Record | None) -> float:
    """Distance of two models' pictures from the same noise (``dse.tasks.frechet.apart``); NaN if unknown."""
    own, base = pictures(record), pictures(baseline)
    if own is None or base is None or baseline is None:
        return math.nan
    if own.pixels.shape != base.pixels.shape or record.data != baseline.data:
        return math.nan
    from dse.tasks.frechet import apart

    return apart(own.values(), base.values())


__all__ = ["MADE", "REAL", "distance", "pictures"]
