"""Ray Tune's ASHA, one for each group of configurations that can be compared, with what earlier runs have seen."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from dse.pack.grouping import signature
from dse.results.gaps import metric_at
from dse.run.executors.configuration import BUDGET, METRIC, WORST, Work
from dse.train.halving import HalvingRule, configuration

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.sweep import Cell

Past = Sequence[tuple[str, int, float]]
"""Group, rung and metric of configurations that were there."""


class Apart(FIFOScheduler):
    """Configurations of different tasks, steps or batches are none of each other's business; baselines never stop."""

    def __init__(self, rule: HalvingRule | None, past: Past) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule, self._groups = rule, dict[str, Any]()
        for number, (group, rung, metric) in enumerate(past):
            one = SimpleNamespace(trial_id=f"past {number}")  # the public methods look at no more
            own = self._group(group)
            own.on_trial_add(None, one)
            own.on_trial_result(None, one, {BUDGET: own.eta ** (rung - 1), METRIC: metric})
            own.on_trial_remove(None, one)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if own := self._of(trial):
            own.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        own = self._of(trial)
        return own.on_trial_result(tune_controller, trial, result) if own else self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if own := self._of(trial):
            own.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if own := self._of(trial):
            own.on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        return f"ASHA of {len(self._groups)} groups"

    def _of(self, trial: Any) -> Any:
        work: Work = trial.config["work"]
        return self._group(signature(work.load.cells[0].trial)) if work.rungs else None

    def _group(self, name: str) -> Any:
        assert self._rule is not None
        if name not in self._groups:
            eta, rungs = self._rule.eta, len(self._rule.rungs)
            self._groups[name] = ASHAScheduler(BUDGET, METRIC, "min", eta**rungs, 1, eta)
            self._groups[name].eta = eta
        return self._groups[name]


def spared(rule: HalvingRule, cell: Cell) -> bool:
    """Whether it is a baseline; those of a search are not known before it has asked for what they are compared with."""
    return cell.uid in rule.spared or cell.uid in cell.baselines.values()


def past(rule: HalvingRule | None, cells: Sequence[Cell], known: Sequence[Record]) -> list[tuple[str, int, float]]:
    """What ASHA is to know of configurations all of whose seeds have results: the worst metric where one has ended."""
    if rule is None:
        return []
    results = {record.uid: record for record in known}
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if not spared(rule, cell):
            groups.setdefault(configuration(cell.trial), []).append(cell)
    found = []
    for own in groups.values():
        if all(cell.uid in results for cell in own):
            for step, rung in rule.at(own[0].trial.training.steps).items():
                metrics = [metric_at(results[cell.uid].evals, step) for cell in own]
                seen = [metric for metric in metrics if metric is not None]
                if seen:
                    worth = fmean(seen) if len(seen) == len(metrics) else WORST
                    found.append((signature(own[0].trial), rung, worth))
    return found
