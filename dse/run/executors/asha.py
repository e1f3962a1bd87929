"""Ray Tune's ASHA for a sweep: one scheduler per group of comparable configurations, which knows earlier runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from dse.pack.grouping import signature
from dse.results.gaps import metric_at
from dse.run.executors.configuration import BUDGET, METRIC, WORST, TuneItem
from dse.train.halving import HalvingRule, configuration

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.sweep import Cell

PastMetrics = Sequence[tuple[str, int, float]]
"""Group, rung and metric of configurations of earlier runs."""


class GroupedASHA(FIFOScheduler):
    """Tune scheduler that compares configurations of the same task, steps and batch only; baselines never stop."""

    def __init__(self, rule: HalvingRule | None, past: PastMetrics) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule, self._schedulers = rule, dict[str, Any]()
        for number, (group, rung, metric) in enumerate(past):
            trial = SimpleNamespace(trial_id=f"past {number}")  # the public methods read no other attribute
            own = self._scheduler(group)
            own.on_trial_add(None, trial)
            own.on_trial_result(None, trial, {BUDGET: own.eta ** (rung - 1), METRIC: metric})
            own.on_trial_remove(None, trial)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if own := self._scheduler_of(trial):
            own.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        own = self._scheduler_of(trial)
        return own.on_trial_result(tune_controller, trial, result) if own else self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if own := self._scheduler_of(trial):
            own.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if own := self._scheduler_of(trial):
            own.on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        return f"ASHA of {len(self._schedulers)} groups"

    def _scheduler_of(self, trial: Any) -> Any:
        """The scheduler of a Tune trial; None of one that never stops."""
        own: TuneItem = trial.config["item"]
        return self._scheduler(signature(own.item.cells[0].trial)) if own.rungs else None

    def _scheduler(self, group: str) -> Any:
        assert self._rule is not None
        if group not in self._schedulers:
            eta, rungs = self._rule.eta, len(self._rule.rungs)
            self._schedulers[group] = ASHAScheduler(BUDGET, METRIC, "min", eta**rungs, 1, eta)
            self._schedulers[group].eta = eta
        return self._schedulers[group]


def never_stops(rule: HalvingRule, cell: Cell) -> bool:
    """Whether a cell is a baseline. The rule does not name all of them: a search finds some only while it runs."""
    return cell.uid in rule.spared or cell.uid in cell.baselines.values()


def past_metrics(rule: HalvingRule | None, cells: Sequence[Cell], known: Sequence[Record]) -> PastMetrics:
    """The metrics at the rungs of configurations all of whose seeds have records.

    A metric is the mean of the seeds, ``WORST`` where one of them had ended before the rung.
    """
    if rule is None:
        return []
    results = {record.uid: record for record in known}
    configurations: dict[str, list[Cell]] = {}
    for cell in cells:
        if not never_stops(rule, cell):
            configurations.setdefault(configuration(cell.trial), []).append(cell)
    found = []
    for own in configurations.values():
        if all(cell.uid in results for cell in own):
            for step, rung in rule.at(own[0].trial.training.steps).items():
                metrics = [metric_at(results[cell.uid].evals, step) for cell in own]
                reached = [metric for metric in metrics if metric is not None]
                if reached:
                    metric = fmean(reached) if len(reached) == len(metrics) else WORST
                    found.append((signature(own[0].trial), rung, metric))
    return found


__all__ = ["GroupedASHA", "PastMetrics", "never_stops", "past_metrics"]
