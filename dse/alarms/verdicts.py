"""Verdicts on GEMM checks: which products are off by more than their recipe explains.

A check holds the training's own product against the exact one, and against what the reference computes under the same
recipe from the same operands with other random bits. The limits allow for those bits: with n elements that carry the
product, a relative error varies by about 1 / sqrt(n) of itself; a gain as much as the operands' rounding errors explain
(``spread``, by blocks of them), in older records by (relative error) / sqrt(n). Over healthy trainings of the whole
gallery none is passed (``tests/alarms``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GAIN = 0.03
"""How far a gain may be from the expected one, besides ``SPREAD`` standard deviations."""
SPREAD = 6.0
ERROR = 1.3
"""How many times the expected relative error an error may be, besides ``SPREAD`` standard deviations."""
UNQUANTIZED = 0.1
"""Of the expected relative error: with less, a product was not quantized as its recipe says."""
LOST = 0.8
"""A gain that is expected below this, without a derivative in the way, means that the recipe itself loses a part of the
product: operands underflow, or its arithmetic is wrong. The lowest of the gallery is .85 (quartet)."""
ZEROS = (0.05, 3.0)
"""A share of zeros in dW may be this, plus so many times that of the paired baseline."""
_NOTHING = 0.9999
_SMALL = 1e-5
"""Relative errors below this are FP32 sums in another order."""


@dataclass(frozen=True)
class Alarm:
    """One product that is off: ``layer``, ``gemm``, the steps at which it was seen, and ``text``: what was seen."""

    layer: str
    gemm: str
    kind: str
    text: str
    steps: tuple[int, ...]

    def line(self) -> str:
        """One line for people."""
        at = "step" if len(self.steps) == 1 else "steps"
        return f"{self.layer} {self.gemm}: {self.text} ({at} {', '.join(map(str, self.steps))})"


def alarms(rows: Sequence[Sequence[Any]], baseline: Sequence[Sequence[Any]] = ()) -> list[Alarm]:
    """The alarms of a trial's ``gemm_checks``, an alarm for each layer, GEMM and kind; ``baseline``: the paired
    trial's."""
    paired = {(step, layer, gemm): values.get("zeros") for step, layer, gemm, values in baseline}
    found: dict[tuple[str, str, str], Alarm] = {}
    for step, layer, gemm, values in rows:
        for kind, text in _verdicts(gemm, values, paired.get((step, layer, gemm))):
            first = found.get((layer, gemm, kind))
            steps = (*first.steps, step) if first else (step,)
            found[layer, gemm, kind] = Alarm(layer, gemm, kind, first.text if first else text, steps)
    return list(found.values())


def _verdicts(gemm: str, values: Mapping[str, Any], baseline_zeros: float | None) -> Iterator[tuple[str, str]]:
    """(kind, what was seen) for everything that is off in one row."""
    zeros = values.get("zeros")
    if gemm == "wgrad" and zeros is not None:
        if zeros >= _NOTHING and (baseline_zeros is None or baseline_zeros < _NOTHING):
            yield "no gradient", "the weight gradient is zero everywhere"
            return
        share, times = ZEROS
        if baseline_zeros is not None and zeros > share + times * baseline_zeros:
            yield "zeros", f"{zeros:.0%} of dW is exactly zero, {baseline_zeros:.1%} in the baseline"
    if "gain" not in values:
        return
    gain, error, expected, usual, elements = (
        values[name] for name in ("gain", "error", "expected_gain", "expected_error", "elements")
    )
    if None in (expected, usual, elements):  # an exact product of zeros, or one that is not finite
        return
    if gain is None or error is None:
        yield "not finite", "the product is not finite where the reference's is"
        return
    spread = SPREAD / math.sqrt(max(elements, 1.0))
    if usual > _SMALL and error < UNQUANTIZED * usual:
        yield "unquantized", f"relative error {error:.2g}, expected {usual:.2g}: not quantized as the recipe says"
    elif error > usual * (ERROR + spread) + _SMALL:
        yield "error", f"relative error {error:.2g}, expected {usual:.2g}"
    blocks = values.get("spread", [0.0])[0] or 0.0
    if abs(gain - expected) > GAIN + max(spread * usual, SPREAD * blocks):
        yield "gain", f"gain {gain:.2f}, expected {expected:.2f}"
    if values.get("repeats") == 1 and error > _SMALL:
        yield "repeats", "the random bits of two steps are the same"
    if expected < LOST and not values.get("vjp"):
        yield "lost", f"gain {expected:.2f}: the recipe itself loses a part of the product"
