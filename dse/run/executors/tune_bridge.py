"""Bridge between the queue and Ray Tune: hands out configurations when Tune asks, and takes their results.

What is done about workers that die or hang is decided by ``Attempts``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ray.tune import Callback
from ray.tune.search import Searcher

from dse.errors import UserError
from dse.results.record import BY, STOPPED, Record
from dse.run.executors.asha import never_stops
from dse.run.executors.attempts import Attempt, Attempts
from dse.run.executors.base import OnProgress, StopSignal, grace_of
from dse.run.executors.cluster import check_started, needs_gpu
from dse.run.executors.configuration import ERROR, RECORDS, TuneItem
from dse.run.executors.worker_log import append_lines
from dse.run.executors.worker_status import WorkerStatusActor
from dse.train.options import RunOptions

_POLL = 0.5  # seconds between questions for progress
ASHA = "asha"


class TuneBridge:
    """``status``: the actor through which workers report; ``worker_options``: the options of the workers."""

    def __init__(self, options: RunOptions, attempts: Attempts, on_progress: OnProgress, stop: StopSignal) -> None:
        import ray

        self.status: Any = ray.remote(num_cpus=0)(WorkerStatusActor).remote()
        self.worker_options = replace(options, device="cuda") if needs_gpu(options) else options
        self._options, self._attempts, self._on_progress, self._stop = options, attempts, on_progress, stop
        self._running: dict[str, Attempt] = {}  # by Tune's trial ids
        self._last_poll = self._last_start = time.monotonic()

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its state now and then, to restore a run that we never restore."""
        return object, ()

    def close(self) -> None:
        """Ends the status actor, once its last lines are logged."""
        import ray

        append_lines(self._options.results, ray.get(self.status.poll.remote(True))[2])
        ray.kill(self.status)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A configuration for Tune; None when there is none just now, FINISHED when none will come."""
        self.poll()
        if self._stop.is_set() or self._attempts.queue.exhausted():
            return str(Searcher.FINISHED)
        if len(self._running) >= self._attempts.workers or not (attempt := self._attempts.start()):
            return None
        self._running[trial_id] = attempt
        self._last_start = time.monotonic()
        rule, item = self._options.halving, attempt.item
        if rule is None or all(never_stops(rule, cell) for cell in item.cells):
            return {"item": TuneItem(item)}
        rungs = rule.at(item.cells[0].trial.training.steps)
        return {"item": TuneItem(item, tuple(rungs[step] for step in sorted(rungs)), rule.eta)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A step of a trial has ended; ``done`` with the last one, also where ASHA has just stopped the trial."""
        self._last_start = time.monotonic()
        self._attempts.reset_deaths()
        lines = result.pop(RECORDS, ())
        if ERROR in result:
            raise UserError(result[ERROR])
        if result.get("done") and (attempt := self._running.pop(trial_id, None)):
            self._attempts.finish(attempt, [_final(Record.parse(line)) for line in lines])

    def on_trial_error(self, trial_id: str, error: object) -> None:
        """The worker of a trial has died. A trial that had ended before is not concerned."""
        if attempt := self._running.pop(trial_id, None):
            self._attempts.fail(attempt, error)

    def should_kill(self, trial_id: str) -> bool:
        """Whether the worker of a running trial takes too long; true once."""
        attempt = self._running.get(trial_id)
        if attempt is None:
            return False
        self._attempts.begin(attempt)
        return self._attempts.overdue(attempt)

    def poll(self, running: int = 1) -> None:
        """Reports progress, tells workers whether to stop, logs their lines; called often, does so now and then.

        ``running``: trials that Tune has started.
        """
        import ray

        if time.monotonic() - self._last_poll < _POLL:
            return
        self._last_poll = time.monotonic()
        if self._running and not running:
            check_started(self._last_start)
        elif running:
            self._last_start = self._last_poll
        busy, done, lines = ray.get(self.status.poll.remote(self._stop.is_set(), grace_of(self._stop)))
        append_lines(self._options.results, lines)
        self._on_progress(busy, done)


class QueueSearcher(Searcher):
    """Tune's search algorithm: the next item of the queue. It keeps nothing that would have to be saved."""

    def __init__(self, bridge: TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        return self._bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing: ``TuneEvents`` is called too."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""


class TuneEvents(Callback):
    """Tune's callback: passes events on to the bridge, and kills the actors of trials that take too long."""

    def __init__(self, bridge: TuneBridge) -> None:
        self._bridge = bridge

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
        self._bridge.on_trial_result(trial.trial_id, result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        error = trial.get_pickled_error() or "no reason known"
        self._bridge.on_trial_error(trial.trial_id, str(error).strip())

    def on_step_end(self, iteration: int, trials: Sequence[Any], **_: Any) -> None:
        import ray

        running = [trial for trial in trials if trial.status == "RUNNING"]
        for trial in running:
            if self._bridge.should_kill(trial.trial_id):
                ray.kill(trial.temporary_state.ray_actor)
        self._bridge.poll(len(running))


def _final(record: Record) -> Record:
    """A record that says so where ASHA has stopped its trial for good at a rung."""
    return replace(record, stopped=record.stopped | {BY: ASHA}) if record.status == STOPPED else record


__all__ = ["ASHA", "QueueSearcher", "TuneBridge", "TuneEvents"]
