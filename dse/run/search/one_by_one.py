"""Sequential asking: one configuration whenever a worker is free, from Ray Tune's OptunaSearch on our own study.

For long trials, where no worker should wait for the end of a batch. What is asked for depends on the order in which
results arrive. The study is rebuilt from the observations; OptunaSearch itself cannot take results of conditional
spaces.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dse.run.search.journal import key_of
from dse.run.search.samplers import sampler
from dse.run.search.study import AskRequest, Observation, Parameters, choose, rebuild, to_trial

if TYPE_CHECKING:
    from dse.sweep import Assignment, Search, Space, Sweep

_NAME = "dse"


class OneByOne:
    """See ``Asker``. ``workers``: how many configurations to keep running, over all tasks."""

    def __init__(self, sweep: Sweep, workers: int) -> None:
        assert sweep.space is not None
        self._space, self._search = sweep.space, sweep.search
        self._room = -(-workers // len(sweep.space.tasks))
        self._studies: dict[str, _Study] = {}

    def batch_size(self, asked: int, waiting: int) -> int:
        return int(waiting < self._room)

    def ask(self, request: AskRequest) -> list[Assignment]:
        task = request.task
        if task not in self._studies:
            self._studies[task] = _Study(self._space, self._search, task, request.observations)
        study = self._studies[task]
        study.tell(request.observations)
        generator = random.Random(f"{self._search.seed}/{len(request.seen)}")
        found = choose(self._space, request, generator, study.draw, study.reject)
        study.keep(found)
        return found


class _Study:
    """OptunaSearch on the study of a task, which begins with these ``observations``."""

    def __init__(self, space: Space, search: Search, task: str, observations: Sequence[Observation]) -> None:
        from optuna.storages import InMemoryStorage
        from ray.tune.search.optuna import OptunaSearch

        self._space, self._task, self._parameters = space, task, Parameters(space)
        self._names = list(search.objectives or ())
        self._study = rebuild(space, search, observations, storage=InMemoryStorage(), study_name=_NAME)
        self._own: Any = OptunaSearch(
            self._suggest,
            metric=self._names,
            mode=["min"] * len(self._names),
            sampler=sampler(search, len(observations)),
            storage=self._study._storage,
            study_name=_NAME,
        )
        self._population = search.population or 1
        self._told = {key_of(item.assignment) for item in observations}
        self._trials: dict[object, str] = {}  # configuration -> trial of OptunaSearch
        self._drawn = 0
        self._last: Assignment = {}

    def draw(self) -> Assignment:
        self._drawn += 1
        self._own.suggest(str(self._drawn))
        return self._last

    def reject(self) -> None:
        self._own.on_trial_complete(str(self._drawn), error=True)

    def keep(self, found: Sequence[Assignment]) -> None:
        """Marks the last draw as used, if it is among these (others were not drawn)."""
        if any(one is self._last for one in found):
            self._trials[key_of(self._last)] = str(self._drawn)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Takes all observations of the task; those it knows already are skipped."""
        for number, item in enumerate(observations):
            key = key_of(item.assignment)
            if key in self._told:
                continue
            self._told.add(key)
            if key in self._trials:
                result = None if item.values is None else dict(zip(self._names, item.values, strict=True))
                self._own.on_trial_complete(self._trials[key], result, error=result is None)
            else:  # asked for by another driver, or by one that is gone
                self._study.add_trial(to_trial(self._space, self._parameters, item, number // self._population))

    def _suggest(self, trial: Any) -> None:
        self._last = self._space.ask(self._task, partial(self._parameters.suggest, trial))
