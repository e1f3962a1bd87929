"""The pictures of a record, and how far they are from its baseline's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.run.record import Record
    from tasks.pictures import Pictures

MADE, REAL = "made", "real"


def pictures(record: Record | None, kind: str = MADE) -> Pictures | None:
    """Those that the trained model made, or real ones; None where the record has none that can be read."""
    if record is None or kind not in record.samples:
        return None
    from tasks.pictures import Pictures

    try:
        return Pictures.parse(record.samples[kind])
    except (ValueError, KeyError, TypeError):
        return None


def distance(record: Record, baseline: Record | None) -> float:
    """How far the pictures of two models from the same noise are apart (``tasks.frechet.apart``); NaN if unknown."""
    own, base = pictures(record), pictures(baseline)
    if own is None or base is None or baseline is None:
        return math.nan
    if own.pixels.shape != base.pixels.shape or record.data != baseline.data:
        return math.nan
    from tasks.frechet import apart

    return apart(own.values(), base.values())


__all__ = ["MADE", "REAL", "distance", "pictures"]
