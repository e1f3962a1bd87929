"""The tidy table of a sweep: one row per cell, joined with its baseline. Everything in a report is computed from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dse.results.by_device import TrialRecords
from dse.results.record import DIVERGED, FAILED, OK, STOPPED, Record

if TYPE_CHECKING:
    import pandas as pd

    from dse.numerics.recipe import Recipe
    from dse.sweep import Cell, Label, Sweep

MISSING = "missing"
"""Status of a cell without a record."""
WIDTHS = (4, 6, 8, 16, 32)
"""Bits of a GEMM's operands by which configurations are told apart: only equal widths compare by overhead alone."""
_LABELS = ("task", "recipe", "seed")


@dataclass(frozen=True)
class TidyTable:
    """The sweep's cells as a data frame, with the names of its axes, tasks, recipes and metrics.

    Columns of ``frame``: uid, task, recipe, config, seed (text), one per grid axis (text), is_baseline, named (no
    overrides), status (ok, diverged, stopped, failed, missing), metric, metric_initial, base_metric, base_initial, gap,
    lost, why (why there is no gap), after_training (quantized then), mean_bits (of operands), bits (the least of WIDTHS
    that is not more than half a bit below it), overhead and relative_time (``dse.cost``: of training, of inference
    after it; a search of formats is counted with the mean of the shares that the configuration's records have of each
    format), seconds and the record's provenance; ``metrics.NAME`` for every held-out metric; metric_bf16, the primary
    metric with the trained weights in BF16 arithmetic, and gap_bf16, its gap to the baseline's; ``gap[NAME]`` and
    ``lost[NAME]`` for every further baseline; stopped_rung, stopped_at (step) and stopped_metric of trials that
    successive halving stopped, whose metric and gap are unknown.
    ``gap`` = metric - base_metric in the metric's unit; ``lost`` = gap / (base_initial - base_metric).
    ``cells``: uid -> its cell in the sweep; ``others``: names of the baselines beside the first; ``ranged``: axes whose
    values a search draws from a range; ``trials``: the records by kind of device. Baselines are of a cell's own kind of
    device where they ran there, so that one baseline may stand in rows by several numbers.
    """

    frame: pd.DataFrame
    axes: dict[str, list[str]]  # grid axis -> its values as text, in the order of the YAML
    tasks: list[str]
    recipes: list[str]  # the baseline's first
    baseline: str
    metric: dict[str, str]  # task -> name of its primary metric
    records: dict[str, Record]
    cells: dict[str, Cell]
    others: list[str] = field(default_factory=list)
    ranged: frozenset[str] = frozenset()
    trials: TrialRecords = field(default_factory=TrialRecords)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``frame`` as dicts; to be read only."""
        return row_dicts(self.frame)

    @cached_property
    def after_training(self) -> bool:
        """Whether all that is compared with the baselines quantizes trained models, so that training is BF16's."""
        compared = [cell for cell in self.cells.values() if not cell.is_baseline]
        return bool(compared) and all(cell.trial.recipe.post is not None for cell in compared)

    def paired_baseline(self, uid: str) -> Record | None:
        """The record of its baseline that a cell is compared with."""
        return self.trials.compared(self.records.get(uid), self.cells[uid].baseline_uid)


def tabulate(sweep: Sweep, records: Iterable[Record]) -> TidyTable:
    """Joins cells with their records and those with their baselines' records; nothing is dropped.

    ``records``: of every kind of device (``Store.on_each_device``). To a sweep without halving a stopped trial has not
    run.
    """
    import pandas as pd

    wanted = {uid for cell in sweep.cells for uid in (cell.uid, cell.baseline_uid, *cell.baselines.values())}
    others = list(dict.fromkeys(name for cell in sweep.cells for name in list(cell.baselines)[1:]))
    trials = TrialRecords.of(
        (r for r in records if r.uid in wanted and (r.status != STOPPED or sweep.search.halving)),
        {cell.uid: cell.baseline_uid for cell in sweep.cells},
    )
    known = trials.counting
    grid = [axis for axis in sweep.axes if axis not in _LABELS]
    shares = format_shares((cell.config, known[cell.uid]) for cell in sweep.cells if cell.uid in known)
    rows = [
        _row(cell, trials, grid, shares.get(cell.config, ())) | _further(cell, trials, others) for cell in sweep.cells
    ]
    frame = pd.DataFrame(rows, columns=None if rows else ["uid", *_LABELS])
    baselines = [str(cell.labels["recipe"]) for cell in sweep.cells if cell.is_baseline]
    return TidyTable(
        frame=frame,
        axes={axis: _values(sweep, axis) for axis in grid},
        tasks=_values(sweep, "task"),
        recipes=list(dict.fromkeys(baselines + _values(sweep, "recipe"))),
        baseline=baselines[0] if baselines else "",
        metric={label_text(cell.labels["task"]): cell.trial.task.metric for cell in sweep.cells},
        records={uid: known[uid] for uid in dict.fromkeys(cell.uid for cell in sweep.cells) if uid in known},
        cells={cell.uid: cell for cell in sweep.cells},
        others=others,
        ranged=_ranged(sweep),
        trials=trials,
    )


def row_dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts by column name."""
    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, i].tolist() for i in range(len(names))]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def label_text(label: Label) -> str:
    """A label as it is shown and grouped by; empty where an axis does not apply."""
    from dse.sweep.language.labels import text_of

    return "" if label is None else text_of(label)


def format_shares(records: Iterable[tuple[str, Record]]) -> dict[str, tuple[float, ...]]:
    """Configuration -> the shares of the weights that its search gave each format, the means over its records."""
    found: dict[str, list[list[float]]] = {}
    for config, record in records:
        if own := record.pack.get("post", {}).get("format_shares"):
            found.setdefault(config, []).append(own)
    return {config: tuple(map(fmean, zip(*own, strict=False))) for config, own in found.items()}


@dataclass(frozen=True)
class _Cost:
    overhead: float
    relative_time: float
    mean_bits: float

    @property
    def bits(self) -> int:
        """The least of WIDTHS that is not more than half a bit below the mean: a recipe of 4.8 bits is no 4-bit one."""
        return min((width for width in WIDTHS if self.mean_bits <= width + 0.5), default=WIDTHS[-1])


@cache
def _cost(recipe: Recipe, shares: tuple[float, ...]) -> _Cost:
    from dse.cost import overhead, relative_time
    from dse.cost.overhead import mean_bits

    return _Cost(
        overhead(recipe, shares=shares), relative_time(recipe, shares=shares), mean_bits(recipe, shares=shares)
    )


def _ranged(sweep: Sweep) -> frozenset[str]:
    dimensions = sweep.space.dimensions if sweep.space else ()
    return frozenset(axis.path for one in dimensions if one.range is not None for axis in one.axes)


def _values(sweep: Sweep, axis: str) -> list[str]:
    """The labels on an axis that some cell bears, as text, in the order of the YAML."""
    borne = {label_text(labels.get(axis)) for cell in sweep.cells for labels in (cell.labels, *cell.also)}
    return [value for value in dict.fromkeys(label_text(label) for label in sweep.axes.get(axis, ())) if value in borne]


def _row(cell: Cell, trials: TrialRecords, grid: list[str], shares: tuple[float, ...]) -> dict[str, Any]:
    from dse.cost.training_phases import stated

    own = trials.counting.get(cell.uid)
    base = trials.compared(own, cell.baseline_uid)
    gap, lost, why = _compare(own, base)
    recipe, trial = label_text(cell.labels["recipe"]), cell.trial
    cost = _cost(stated(trial.recipe, trial.training.steps), shares)
    return {
        "uid": cell.uid,
        **{name: label_text(cell.labels[name]) for name in _LABELS},
        "config": cell.config,
        **{axis: label_text(cell.labels.get(axis)) for axis in grid},
        "is_baseline": cell.is_baseline,
        "named": cell.config == recipe,
        "status": own.status if own else MISSING,
        "metric": _float(own.metric if own else None),
        "metric_initial": _float(own.metric_initial if own else None),
        "baseline_uid": cell.baseline_uid,
        "base_metric": _float(base.metric if base else None),
        "base_initial": _float(base.metric_initial if base else None),
        "gap": gap,
        "lost": lost,
        "why": why,
        "after_training": cell.trial.recipe.post is not None,
        "bits": cost.bits,
        "mean_bits": cost.mean_bits,
        "overhead": cost.overhead,
        "relative_time": cost.relative_time,
        "mixed": bool(own and base and _apart(own, base)),
        **({f"metrics.{k}": _float(v) for k, v in own.metrics.items()} if own and own.status == OK else {}),
        **_in_bf16(cell, own, base),
        **_stop(own),
        "diverged_at": _float(own.diverged_at if own else None),
        "diverged_where": (own.diverged_where or "") if own else "",
        "seconds": own.seconds if own else math.nan,
        "started": own.started if own else "",
        "device": own.device if own else "",
        "host": own.host if own else "",
        "data": own.data if own else "",
    }


def _apart(own: Record, base: Record) -> bool:
    """Whether two trials ran on different devices or versions, or (where both tell) on processors of other bits."""
    bits = [record.pack.get("processor", {}).get("bits") for record in (own, base)]
    return (own.device, own.versions) != (base.device, base.versions) or (all(bits) and bits[0] != bits[1])


def _further(cell: Cell, trials: TrialRecords, others: list[str]) -> dict[str, float]:
    """Gaps to the baselines beside the first; unknown to those that are not the cell's."""
    own, found = trials.counting.get(cell.uid), dict[str, float]()
    for name in others:
        gap, lost, _ = _compare(own, trials.compared(own, cell.baselines.get(name, "")))
        found |= {f"gap[{name}]": gap, f"lost[{name}]": lost}
    return found


def _in_bf16(cell: Cell, own: Record | None, base: Record | None) -> dict[str, float]:
    """Unknown of trials that have no final metric, or were recorded before it was taken."""
    primary = cell.trial.task.metric
    mine, theirs = (_float(r.metrics_bf16.get(primary)) if r and r.status == OK else math.nan for r in (own, base))
    known = own is not None and base is not None and own.data == base.data
    return {"metric_bf16": mine, "gap_bf16": mine - theirs if known else math.nan}


def _stop(own: Record | None) -> dict[str, float]:
    at = own.stopped if own and own.status == STOPPED else {}
    names = {"stopped_rung": "rung", "stopped_at": "step", "stopped_metric": "metric"}
    return {column: _float(at.get(key)) for column, key in names.items()}


def _compare(own: Record | None, base: Record | None) -> tuple[float, float, str]:
    """(gap, lost, why one of them is unknown)."""
    if own is None:
        return math.nan, math.nan, "not run yet"
    if own.status in (DIVERGED, FAILED, STOPPED) or own.metric is None:
        return math.nan, math.nan, own.status if own.status != OK else "no finite metric"
    if base is None:
        return math.nan, math.nan, "baseline not run yet"
    if base.status != OK or base.metric is None:
        return math.nan, math.nan, f"baseline {base.status if base.status != OK else 'has no finite metric'}"
    if own.data != base.data:
        return math.nan, math.nan, "baseline saw other data"
    gap = own.metric - base.metric
    improvement = _float(base.metric_initial) - base.metric
    if not improvement > 0:
        return gap, math.nan, "baseline did not improve"
    return gap, gap / improvement, ""


def _float(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) else float(value)
