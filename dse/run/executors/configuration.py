"""Ray Tune trainable of one configuration: all its seeds as one pack, one Tune step from each rung to the next.

A step leaves its checkpoint in the results folder, so Tune keeps none. It reports the records of trials that stop at
its rung, whether they go on later or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ray import tune

from dse.errors import UserError
from dse.results.record import STOPPED, Record
from dse.run.executors.worker import Worker
from dse.run.executors.worker_log import WorkerLog
from dse.run.executors.worker_status import make_reporter
from dse.train.halving import RungTarget

if TYPE_CHECKING:
    from dse.run.queue.pack_queue import WorkItem
    from dse.train.options import RunOptions

RECORDS, ERROR, METRIC, BUDGET = "records", "complaint", "metric", "budget"
"""Keys of what a step reports: the lines of its records, the text of a UserError, and the two numbers ASHA reads."""
WORST = 1e300
"""The metric of a configuration of which a seed has diverged or failed: larger than any, and still a number."""


@dataclass(frozen=True, repr=False)
class TuneItem:
    """A work item as Tune's trials have it: ``rungs``: where it reports before its end, rising; ``eta``: of ASHA.

    The milestones of Tune's ASHA are powers of eta: rung k is reported as eta^(k-1), whatever share of the steps it
    stands for.
    """

    item: WorkItem
    rungs: tuple[int, ...] = ()
    eta: int = 2

    def __repr__(self) -> str:
        return self.item.cells[0].uid  # Tune puts it in names


class ConfigurationTrainable(tune.Trainable):
    """Trains the item that its config has as "item". Tune reuses its actor for the next one (``reset_config``)."""

    def setup(self, config: dict[str, Any], options: RunOptions, status: Any) -> None:  # type: ignore[override]
        self._worker = Worker(options)
        self._log = WorkerLog()
        self._log.install()
        self._status, self._name = status, self.trial_id
        self._on_step = make_reporter(status, self._name, self._worker, self._log)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._item: TuneItem = new_config["item"]
        self._rungs_ahead = [*self._item.rungs, None]
        self._records: dict[str, Record] = {}
        return True

    def step(self) -> dict[str, Any]:
        """Trains all seeds that have not ended to the next rung."""
        rung = self._rungs_ahead.pop(0)
        item = self._item.item
        cells = [cell for cell in item.cells if cell.uid not in self._records or self._waits(cell.uid)]
        trials, configs = [cell.trial for cell in cells], [cell.config for cell in cells]
        try:
            found = self._worker.run(trials, configs, len(cells), self._on_step, RungTarget(rung), item.splits)
        except UserError as error:
            return {ERROR: str(error), "done": True}
        finally:
            self._status.report.remote(self._name, 0, 0.0, self._log.drain())
        self._records |= {record.uid: record for record in found}
        if len(found) < len(cells):  # it was told to stop, and left checkpoints
            ended = [r for r in self._records.values() if r.status != STOPPED]
            return {RECORDS: [record.line() for record in ended], "done": True}
        records = [self._records[cell.uid] for cell in item.cells]
        done = not self._rungs_ahead or all(record.status != STOPPED for record in records)
        numbers = {BUDGET: self._item.eta ** (rung - 1), METRIC: mean_metric(records)} if rung else {}
        return {RECORDS: [record.line() for record in records], "done": done} | numbers

    def _waits(self, uid: str) -> bool:
        """Whether a trial has stopped at a rung, and goes on in the next step."""
        return self._records[uid].status == STOPPED


def mean_metric(records: Sequence[Record]) -> float:
    """The mean metric of seeds that have stopped at a rung; ``WORST`` where one has ended before."""
    metrics = [record.stopped.get("metric") if record.status == STOPPED else None for record in records]
    known = [metric for metric in metrics if metric is not None]
    return fmean(known) if len(known) == len(metrics) else WORST


__all__ = ["BUDGET", "ERROR", "METRIC", "RECORDS", "WORST", "ConfigurationTrainable", "TuneItem", "mean_metric"]
