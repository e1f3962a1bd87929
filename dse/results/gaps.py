"""Gap of a trial to its baseline, computed when results are read: it is not stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class MeasuredRecord(Protocol):
    """The fields of a record from which a gap is computed."""

    @property
    def metric(self) -> float | None: ...
    @property
    def metric_initial(self) -> float | None: ...


@dataclass(frozen=True)
class Gap:
    """Held-out metric of a trial against the baseline trial of the same task, training and seed; lower is better.

    - ``absolute``: metric - baseline, in the metric's unit;
    - ``percent``: of the baseline's metric;
    - ``lost``: share of the baseline's whole improvement (initial - final) that was lost; comparable between tasks, and
      the unit of every message.
    """

    absolute: float
    percent: float | None
    lost: float | None


def metric_at(evals: Sequence[Sequence[float | None]], step: int) -> float | None:
    """The held-out metric that a trial had at a step, for comparisons at equal budget; None where it was not taken."""
    return next((value for at, value in evals if at == step), None)


def gap(record: MeasuredRecord | None, baseline: MeasuredRecord | None) -> Gap | None:
    """None when either trial has no final metric (it diverged, failed, or has not run)."""
    if record is None or baseline is None or record.metric is None or baseline.metric is None:
        return None
    absolute = record.metric - baseline.metric
    percent = 100 * absolute / abs(baseline.metric) if baseline.metric else None
    initial = baseline.metric_initial
    gained = None if initial is None else initial - baseline.metric
    return Gap(absolute, percent, absolute / gained if gained is not None and gained > 0 else None)
