"""A search as an Optuna study: rebuilt from the results so far, then asked for the next configurations.

A study is never kept: each is made anew, so that its suggestions are a function of the search and its results.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dse.run.search.journal import key_of
from dse.run.search.objectives import USUAL
from dse.run.search.samplers import GENERATION, sampler
from dse.sweep import Assignment, Dimension, Label, Search, Space
from dse.sweep.language.labels import text_of

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_MAX_MISSES = 200
"""Useless suggestions (asked for before, or not accepted) after which the sampler gives way to random configurations,
and useless random ones in a row after which the space counts as used up."""

ConfigurationKey = tuple[tuple[str, object], ...]
"""Of a configuration: see ``journal.key_of``."""


@dataclass(frozen=True)
class Observation:
    """A configuration and its objectives; None: it failed, and they are unknown."""

    assignment: Assignment
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class AskRequest:
    """What a search asks for: ``count`` configurations of a ``task``.

    ``observations``: of the task so far, in the order of asking; ``seen``: keys of the configurations asked for before;
    ``accept``: called with each new one, whether it may be used.
    """

    task: str
    observations: Sequence[Observation]
    seen: Collection[ConfigurationKey]
    count: int
    accept: Callable[[Assignment], bool]


class Parameters:
    """The dimensions of a space as Optuna's parameters: their names are unique, their choices text."""

    def __init__(self, space: Space) -> None:
        names = [d.name for d in space.dimensions]
        self.names = {
            d: d.name if names.count(d.name) == 1 else f"{d.name} ({number})"
            for number, d in enumerate(space.dimensions)
        }
        self._texts = {d: _texts(d) for d in space.dimensions if d.range is None}

    def suggest(self, trial: Trial, dimension: Dimension) -> Label:
        """What the trial's sampler chooses."""
        name, own = self.names[dimension], dimension.range
        if own is None:
            texts = self._texts[dimension]
            return dimension.choices[texts.index(trial.suggest_categorical(name, texts))]
        if own.whole:
            step = int(own.step) or 1
            return trial.suggest_int(name, int(own.low), int(own.snap(own.high)), step=step, log=own.log)
        return trial.suggest_float(name, own.low, own.snap(own.high), step=own.step or None, log=own.log)

    def value(self, dimension: Dimension, label: Label) -> Any:
        """A label as Optuna's value of the parameter."""
        return label if dimension.range else self._texts[dimension][dimension.choices.index(label)]

    def distribution(self, dimension: Dimension) -> BaseDistribution:
        """Equal to the one of ``suggest``."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        own = dimension.range
        if own is None:
            return CategoricalDistribution(self._texts[dimension])
        if own.whole:
            return IntDistribution(int(own.low), int(own.snap(own.high)), own.log, int(own.step) or 1)
        return FloatDistribution(own.low, own.snap(own.high), own.log, own.step or None)


def ask(space: Space, search: Search, request: AskRequest) -> list[Assignment]:
    """The next configurations of a task, fewer than asked for when the space seems to be used up.

    A function of its arguments alone.
    """
    from optuna.trial import TrialState

    own = sampler(search, len(request.observations))
    study, parameters = rebuild(space, search, request.observations, own), Parameters(space)
    trials: list[Trial] = []

    def draw() -> Assignment:
        trials.append(study.ask())
        return space.ask(request.task, partial(parameters.suggest, trials[-1]))

    def reject() -> None:
        study.tell(trials[-1], state=TrialState.FAIL)

    generator = random.Random(f"{search.seed}/{len(request.observations)}")
    return choose(space, request, generator, draw, reject)


def choose(
    space: Space,
    request: AskRequest,
    generator: random.Random,
    draw: Callable[[], Assignment],
    reject: Callable[[], None],
) -> list[Assignment]:
    """New and accepted configurations from ``draw``, then random ones. ``reject``: marks the last draw as useless."""
    found: list[Assignment] = []
    tried = set(request.seen)

    def offer(assignment: Assignment) -> bool:
        key = key_of(assignment)
        new = key not in tried and request.accept(assignment)
        tried.add(key)
        if new:
            found.append(assignment)
        return new

    misses = 0
    while len(found) < request.count and misses < _MAX_MISSES:
        if not offer(draw()):
            reject()
            misses += 1
    misses = 0
    while len(found) < request.count and misses < _MAX_MISSES:
        point = [generator.random() for _ in space.dimensions]
        misses = 0 if offer(space.from_unit_cube(request.task, point)) else misses + 1
    return found


def rebuild(space: Space, search: Search, observations: Sequence[Observation], own: Any = None, **where: Any) -> Study:
    """A study with these observations. ``own``: its sampler; ``where``: its name and storage, by default in memory."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection.MINIMIZE] * len(search.objectives or USUAL)
    study = optuna.create_study(directions=directions, sampler=own, **where)
    parameters = Parameters(space)
    complete = 0
    for item in observations:
        study.add_trial(to_trial(space, parameters, item, complete // (search.population or 1)))
        complete += item.values is not None
    return study


def to_trial(space: Space, parameters: Parameters, item: Observation, generation: int) -> FrozenTrial:
    """An observation as a finished trial of Optuna; ``generation``: of NSGA-II."""
    from optuna.trial import TrialState, create_trial

    labels = space.choices_of(item.assignment)
    return create_trial(
        state=TrialState.FAIL if item.values is None else TrialState.COMPLETE,
        values=item.values,
        params={parameters.names[d]: parameters.value(d, label) for d, label in labels.items()},
        distributions={parameters.names[d]: parameters.distribution(d) for d in labels},
        system_attrs={GENERATION: generation},
    )


def _texts(dimension: Dimension) -> tuple[str, ...]:
    """A dimension's choices as distinct texts."""
    texts = tuple(map(text_of, dimension.choices))
    return texts if len(set(texts)) == len(texts) else tuple(f"{i}: {text}" for i, text in enumerate(texts))
