"""Results at the rungs of successive halving: every configuration's metric and gap at each rung, and at the end.

All trials that reach a rung are evaluated there, so stopped and surviving configurations are compared after the same
number of steps. Final numbers are those of trials with the full budget alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.number_format import interval, number
from dse.report.analysis.configs import baselines_apart
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.results.gaps import metric_at
from dse.results.record import DIVERGED, OK, STOPPED
from dse.stats import Estimate, estimate
from dse.train.halving import HalvingRule

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.sweep import Cell, Sweep


@dataclass(frozen=True)
class RungEstimate:
    """Estimates at a rung, over the seeds that reached it: the held-out metric, and the gap to the baseline.

    ``of``: the number of the configuration's seeds.
    """

    metric: Estimate
    gap: Estimate
    of: int

    @property
    def text(self) -> str:
        """The metric, with the number of seeds where some are missing."""
        return number(self.metric.mean) + (f" (n = {self.metric.n})" if 0 < self.metric.n < self.of else "")

    @property
    def gap_text(self) -> str:
        return interval(self.gap.mean, self.gap.half, sign=True)


@dataclass(frozen=True)
class RungResults:
    """A configuration's results at each rung and at the end. ``reached``: how many seeds got how far, in words."""

    config: str
    baseline: bool
    rungs: list[RungEstimate]
    final: RungEstimate
    reached: str
    order: tuple[float, ...]


@dataclass(frozen=True)
class RungTable:
    """The results of a task's configurations. ``heads``: 'step 6 (10 %)' for each rung; ``end``: 'step 60'.

    Sorted by the last rung reached, then by the gap there (the metric, without a gap); a single baseline first, several
    last, since a sweep of training settings has as many of them as settings.
    """

    task: str
    heads: list[str]
    end: str
    results: list[RungResults]


def rung_tables(sweep: Sweep, table: TidyTable) -> list[RungTable]:
    """One per task; none for a sweep without halving, or before anything has run."""
    halving = sweep.search.halving
    if halving is None or not table.records:
        return []
    rule = HalvingRule(halving.eta, halving.rungs)
    found = []
    for task in table.tasks:
        rows = row_dicts(table.frame[table.frame["task"] == task])
        groups: dict[str, list[tuple[Cell, Record | None, Record | None]]] = {}
        for row in rows:
            records = table.records.get(row["uid"]), table.paired_baseline(row["uid"])
            groups.setdefault(row["config"], []).append((table.cells[row["uid"]], *records))
        steps = sorted({table.cells[row["uid"]].trial.training.steps for row in rows})
        places = [rule.at(count) for count in steps]
        count = max((max(place.values(), default=0) for place in places), default=0)
        heads = [
            f"{_steps_text([s for p in places for s, r in p.items() if r == rung])} "
            f"({100 * halving.rungs[rung - 1]:.3g} %)"
            for rung in range(1, count + 1)
        ]
        results = [_results(config, cells, rule, count) for config, cells in groups.items()]
        known = [one for one in results if one.reached]
        found.append(RungTable(task, heads, _steps_text(steps), baselines_apart(known, lambda one: one.order)))
    return found


def _results(
    config: str, cells: list[tuple[Cell, Record | None, Record | None]], rule: HalvingRule, count: int
) -> RungResults:
    rungs = [_at_rung(cells, rule, rung) for rung in range(1, count + 1)]
    full = [(own, base) for _, own, base in cells if own and own.status == OK]
    ends = [(own.metric, base.metric if base and base.data == own.data else None) for own, base in full]
    final = _estimates(ends, len(cells))
    stopped: dict[object, int] = {}
    for _, own, _ in cells:
        if own and own.status == STOPPED:
            stopped[own.stopped.get("rung")] = stopped.get(own.stopped.get("rung"), 0) + 1
    diverged = sum(bool(own and own.status == DIVERGED) for _, own, _ in cells)
    reached = [f"{len(full)} to the end"] * bool(full)
    reached += [f"{n} to rung {rung}" for rung, n in sorted(stopped.items(), key=lambda item: str(item[0]))]
    reached += [f"{diverged} diverged"] * bool(diverged)
    furthest = next((b for b in (final, *reversed(rungs)) if b.metric.n), final)
    went = count + 1 if full else max((i for i, b in enumerate(rungs, 1) if b.metric.n), default=0)
    values = [v if v == v else float("inf") for v in (furthest.gap.mean, furthest.metric.mean)]
    return RungResults(config, cells[0][0].is_baseline, rungs, final, ", ".join(reached), (-went, *values))


def _at_rung(cells: list[tuple[Cell, Record | None, Record | None]], rule: HalvingRule, rung: int) -> RungEstimate:
    pairs = []
    for cell, own, base in cells:
        step = next((s for s, r in rule.at(cell.trial.training.steps).items() if r == rung), None)
        if own is not None and step is not None:
            same = base is not None and base.data == own.data
            pairs.append((metric_at(own.evals, step), metric_at(base.evals, step) if base and same else None))
    return _estimates(pairs, len(cells))


def _estimates(pairs: list[tuple[float | None, float | None]], of: int) -> RungEstimate:
    known = [(own, base) for own, base in pairs if own is not None]
    gaps = [own - base for own, base in known if base is not None]
    return RungEstimate(estimate(own for own, _ in known), estimate(gaps), of)


def _steps_text(steps: list[int]) -> str:
    low, high = min(steps), max(steps)
    return f"step {low:,}" if low == high else f"steps {low:,} to {high:,}"
