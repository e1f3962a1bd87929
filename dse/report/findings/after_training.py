"""Finding: the fronts of recipes that quantize after training, of bits per weight and of time at inference."""

from __future__ import annotations

from collections.abc import Sequence

from dse.number_format import percent
from dse.report.analysis.post_front import PostConfig, best_at_four_bits
from dse.report.analysis.short_names import few
from dse.report.findings.finding import Finding
from dse.text import listing

_MOST = 4


def fronts_after_training(found: Sequence[PostConfig]) -> Finding | None:
    """Which configuration of W4A4 to take, and who is on either front; None where nothing is known."""
    bits = [one for one in found if one.by_bits and not one.baseline]
    time = sorted((one for one in found if one.by_time and not one.baseline), key=lambda one: one.time)
    if not bits and not time:
        return None
    by_bits = [f"{one.config} ({one.weight_bits:.2f} bits, {percent(one.lost, one.half)})" for one in bits]
    by_time = [f"{one.config} ({one.time:.2f}, {percent(one.lost, one.half)})" for one in time]
    points = [f"On the front of bits per weight, by the means: {listing(few(by_bits, _MOST))}."] if bits else []
    points += [f"On the front of time at inference (BF16 = 1): {listing(few(by_time, _MOST))}."] if time else []
    sentence = best_at_four_bits(found)
    return Finding("Quantization after training", sentence or points.pop(0), points)


__all__ = ["fronts_after_training"]
