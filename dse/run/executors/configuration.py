"""One configuration as a trial of Ray Tune: all its seeds as one pack, a step of Tune for each leg from rung to rung.

A leg leaves its checkpoint in the results folder, so Tune keeps none. What a step reports is what trials that stop at
that rung leave behind, whether they go on or not.
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
from dse.run.executors.worker_status import beats
from dse.train.halving import RungTarget

if TYPE_CHECKING:
    from dse.run.queue.pack_queue import WorkItem
    from dse.train.options import RunOptions

RECORDS, ERROR, METRIC, BUDGET = "records", "complaint", "metric", "budget"
"""Keys of what a step reports: a record per cell, none of those that left; a UserError's text; ASHA's two numbers."""
WORST = 1e300
"""The metric of a configuration of which a seed has diverged or failed: worse than any, and still a number."""


@dataclass(frozen=True, repr=False)
class Work:
    """``load``: the cells of a configuration; ``rungs``: where it reports before the end, rising; ``eta``: of ASHA.

    ASHA's own milestones are powers of eta: rung k is told as eta^(k-1), whatever share of the steps it stands for.
    """

    load: WorkItem
    rungs: tuple[int, ...] = ()
    eta: int = 2

    def __repr__(self) -> str:
        return self.load.cells[0].uid  # Tune puts it in names


class Configuration(tune.Trainable):
    """See above. Its actor lives on for the next configuration (``reset_config``)."""

    def setup(self, config: dict[str, Any], options: RunOptions, board: Any) -> None:  # type: ignore[override]
        self._worker = Worker(options)
        self._said = WorkerLog()
        self._said.listen()
        self._beat = beats(board, self.trial_id, self._worker, self._said)
        self._board, self._name = board, self.trial_id
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._work: Work = new_config["work"]
        self._ahead = [*self._work.rungs, None]
        self._records: dict[str, Record] = {}
        return True

    def step(self) -> dict[str, Any]:
        """One leg of all seeds that live."""
        rung = self._ahead.pop(0)
        cells = self._work.load.cells
        going = [cell for cell in cells if cell.uid not in self._records or self._records[cell.uid].status == STOPPED]
        try:
            found = self._worker.run(
                [cell.trial for cell in going],
                [cell.config for cell in going],
                len(going),
                self._beat,
                RungTarget(rung),
                self._work.load.splits,
            )
        except UserError as error:
            return {ERROR: str(error), "done": True}
        finally:
            self._board.write.remote(self._name, 0, 0.0, self._said.take())
        self._records |= {record.uid: record for record in found}
        if len(found) < len(going):  # it was asked to leave, and left checkpoints
            ended = [r for r in self._records.values() if r.status != STOPPED]
            return {RECORDS: [record.line() for record in ended], "done": True}
        records = [self._records[cell.uid] for cell in cells]
        over = not self._ahead or all(record.status != STOPPED for record in records)
        told = {BUDGET: self._work.eta ** (rung - 1), METRIC: at_rung(records)} if rung else {}
        return {RECORDS: [record.line() for record in records], "done": over} | told


def at_rung(records: Sequence[Record]) -> float:
    """The mean metric of seeds that wait at a rung; the worst where one has ended before."""
    metrics = [record.stopped.get("metric") if record.status == STOPPED else None for record in records]
    known = [metric for metric in metrics if metric is not None]
    return fmean(known) if len(known) == len(metrics) else WORST
