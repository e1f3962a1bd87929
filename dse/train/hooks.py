"""Hooks of the training loop: progress, probes, checks of products, evaluations, and successive halving.

A hook is called before and after every step. An error in a hook never costs a trial its training: it is noted in the
records, under the hook's ``missing``, and the training continues. The checkpoint hook is in ``dse.train.resume``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from dse.errors import UserError
from dse.pack.step import TrainStep
from dse.train.context import OnStep, last_line
from dse.train.halving import HalvingRule, RungPlan
from dse.train.pack_run import PackRun


class Hook:
    """Base of hooks; each overrides the moments that it needs."""

    missing: str
    """Name in the records' ``pack`` under which an error of the hook is noted."""

    def before_step(self, run: PackRun) -> None:
        """Before step ``run.steps_done``."""

    def after_step(self, run: PackRun) -> None:
        """After a step; ``run.steps_done`` counts it already."""

    def at_end(self, run: PackRun) -> None:
        """After the last step, before the results are written."""


class Observer(Protocol):
    """What looks into a running training; ``rows``: uid -> what it saw; ``missing``: as a hook's."""

    missing: str
    rows: dict[str, list[Any]]

    def __call__(self, train_step: TrainStep, step: int) -> None:
        """Looks before ``step``, where it wants to."""

    def state_dict(self) -> dict[str, object]:
        """Plain data and tensors for a checkpoint."""

    def load_state_dict(self, *states: Mapping[str, Any]) -> None:
        """The inverse; ``states``: of packs whose members are now together, empty of one without the observer."""


class Hooks(Hook):
    """Calls several hooks, in their order, and notes their errors."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = tuple(hooks)

    def before_step(self, run: PackRun) -> None:
        for hook in self._hooks:
            with _noted(run, hook.missing):
                hook.before_step(run)

    def after_step(self, run: PackRun) -> None:
        for hook in self._hooks:
            with _noted(run, hook.missing):
                hook.after_step(run)

    def at_end(self, run: PackRun) -> None:
        for hook in self._hooks:
            with _noted(run, hook.missing):
                hook.at_end(run)


class ProgressHook(Hook):
    """Calls ``on_step`` before each step. It may end the training by an exception that is no ``Exception``."""

    missing = "progress_missing_because"

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def before_step(self, run: PackRun) -> None:
        self._on_step(run.steps_done, run.steps)


class ObserverHook(Hook):
    """Lets an observer look into the training before each step at which it wants to."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.missing = observer.missing

    def before_step(self, run: PackRun) -> None:
        self._observer(run.train_step, run.steps_done)


class EvaluationHook(Hook):
    """Evaluates every ``every`` steps, for the curve of held-out metrics; rungs are left to the ``RungHook``."""

    missing = "evals_missing_because"

    def __init__(self, every: int, plan: RungPlan) -> None:
        self._every, self._plan = every, plan

    def after_step(self, run: PackRun) -> None:
        if run.steps_done % self._every == 0 and run.steps_done < run.steps and run.steps_done not in self._plan.rungs:
            run.evaluate("note")


class RungHook(Hook):
    """Successive halving: evaluates at every rung, and drops the worse members of a pack that ranks its own."""

    missing = "halving_missing_because"

    def __init__(self, rule: HalvingRule, plan: RungPlan) -> None:
        self._rule, self._plan = rule, plan

    def after_step(self, run: PackRun) -> None:
        if run.steps_done not in self._plan.rungs:
            return
        run.evaluate("fail")
        if self._plan.ranks_at(run.steps_done):
            self._rank(run, self._plan.rungs[run.steps_done])

    def _rank(self, run: PackRun, rung: int) -> None:
        """Drops the losers, and members without a metric, unless nobody has one."""
        metrics = run.metrics()
        losers = {*self._rule.losers(run.members, metrics)}
        unranked = {member for member, metric in enumerate(metrics) if metric is None}
        leaving = losers | unranked
        if len(leaving) == len(metrics):
            leaving = losers
        if leaving:
            run.drop(leaving, rung)


@contextmanager
def _noted(run: PackRun, name: str) -> Iterator[None]:
    """Within this context an error is caught, and noted in the run's facts."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - too little memory, say: training goes on without
        run.facts[name] = f"step {run.steps_done}: {last_line(f'{type(error).__name__}: {error}')}"
        if run.train_step.pack.device.type == "cuda":
            torch.cuda.empty_cache()


__all__ = ["EvaluationHook", "Hook", "Hooks", "Observer", "ObserverHook", "ProgressHook", "RungHook"]
