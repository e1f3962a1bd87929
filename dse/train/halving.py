"""Successive halving: at each rung the worse configurations stop, and the others train on.

Configurations of a sweep that share task, steps and batch are ranked together (``dse.run.queue.rungs``), by the mean
held-out metric of their trials; a configuration with a diverged trial ranks last. The best 1/eta go on. Survivors are
bit-identical (on the CPU) to trials that were never ranked.

Source: Jamieson and Talwalkar, arXiv 1502.07943.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.trial import Trial


@dataclass(frozen=True)
class HalvingRule:
    """``eta``: one of so many goes on; ``rungs``: shares of the steps, rising; ``spared``: uids that never stop."""

    eta: int
    rungs: tuple[float, ...]
    spared: frozenset[str] = frozenset()

    def at(self, steps: int) -> dict[int, int]:
        """Step -> rung, counted from 1, for trials of so many ``steps``. The last step is never a rung."""
        found = {max(1, round(share * steps)): number for number, share in enumerate(self.rungs, 1)}
        return {step: number for step, number in found.items() if step < steps}

    def losers(self, trials: Sequence[Trial], metrics: Sequence[float | None]) -> list[int]:
        """Places of the trials that stop at this rung; ``metrics``: lower is better, None for diverged trials."""
        groups: dict[str, list[int]] = {}
        for member, trial in enumerate(trials):
            if trial.uid not in self.spared:
                groups.setdefault(configuration(trial), []).append(member)

        def score(members: Sequence[int]) -> float:
            known = [metric for member in members if (metric := metrics[member]) is not None]
            return fmean(known) if len(known) == len(members) else math.inf

        ranked = sorted(groups, key=lambda name: (score(groups[name]), name))  # not by place: packs differ
        kept = math.ceil(len(ranked) / self.eta)
        return sorted(m for name in ranked[kept:] for m in groups[name] if metrics[m] is not None)


@dataclass(frozen=True)
class RungTarget:
    """Train up to rung ``rung``, then pause until all trials that are ranked together have arrived (None: to the end).

    A pack of all ``group`` trials that are ranked together does not pause: it ranks its members itself from there on.
    """

    rung: int | None = None
    group: int = 0


@dataclass(frozen=True)
class RungPlan:
    """The rungs of one pack, and how far it trains.

    ``rungs``: step -> rung; ``stop_at``: the step at which the pack pauses or is finished; ``ranks``: it holds all
    trials that are ranked together, and drops the worse ones itself.
    """

    rungs: Mapping[int, int]
    target: RungTarget
    stop_at: int
    ranks: bool

    @classmethod
    def of(cls, trials: Sequence[Trial], rule: HalvingRule | None, target: RungTarget | None) -> RungPlan:
        """``target`` None: from the first rung on, the pack ranks its own members."""
        steps = trials[0].training.steps
        if rule is None:
            return cls({}, RungTarget(), steps, ranks=False)
        rungs = rule.at(steps)
        target = target or RungTarget(min(rungs.values(), default=None), len(trials))
        ranks = target.group == len(trials)
        pause = None if ranks else _step_of(target, rungs)
        return cls(rungs, target, steps if pause is None else pause, ranks)

    @property
    def target_step(self) -> int | None:
        """The step of the target rung."""
        return _step_of(self.target, self.rungs)

    def ranks_at(self, step: int) -> bool:
        """Whether the pack ranks its members after ``step``."""
        first = self.target.rung
        return self.ranks and first is not None and self.rungs.get(step, 0) >= first


def _step_of(target: RungTarget, rungs: Mapping[int, int]) -> int | None:
    return next((step for step, rung in rungs.items() if rung == target.rung), None)


def configuration(trial: Trial) -> str:
    """The trial's content without its seed: equal for trials of one configuration."""
    return json.dumps({name: part for name, part in trial.spec.items() if name != "seed"}, sort_keys=True)


__all__ = ["HalvingRule", "RungPlan", "RungTarget", "configuration"]
