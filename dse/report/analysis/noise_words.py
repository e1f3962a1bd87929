"""Why a difference is not told apart from zero, in words that agree with the interval printed beside it."""

from __future__ import annotations

import math

from dse.stats import CONFIDENCE, Estimate

WITHIN = "within the noise"


def in_doubt(found: Estimate, p: float | None = None, comparisons: int = 1) -> str:
    """Empty where ``found`` is beyond the noise at 5 %; else why it is not.

    ``p``: its p-value after Holm's correction for so many ``comparisons``, by default its own.
    """
    if math.isnan(found.mean):
        return "unknown"
    if not found.df > 0:
        return "one seed, no interval"
    if (found.p if p is None else p) < 1 - CONFIDENCE:
        return ""
    if found.excludes_zero and comparisons > 1:
        return f"the interval excludes zero, but no longer after Holm's correction for {comparisons} comparisons"
    return WITHIN


__all__ = ["WITHIN", "in_doubt"]
