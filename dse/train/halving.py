"""Successive halving: at each rung the worse configurations stop, and the others go on without them.

Who is compared: the configurations of a sweep that share task, steps and batch (``dse.run.queue.rungs``). A
configuration counts with the mean of its trials' held-out metrics; one of which a trial has diverged comes last. The
best 1/eta go on. Survivors are bit-identical (on the CPU) to trials that were never compared.

Source: Jamieson and Talwalkar, arXiv 1502.07943.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
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
        """Step of a trial of so many steps -> its rung, from 1 on. None of them is the last step."""
        found = {max(1, round(share * steps)): number for number, share in enumerate(self.rungs, 1)}
        return {step: number for step, number in found.items() if step < steps}

    def losers(self, trials: Sequence[Trial], metrics: Sequence[float | None]) -> list[int]:
        """The members that stop now; ``metrics``: at this rung, lower is better, None of those that have diverged."""
        groups: dict[str, list[int]] = {}
        for member, trial in enumerate(trials):
            if trial.uid not in self.spared:
                groups.setdefault(configuration(trial), []).append(member)

        def worth(members: Sequence[int]) -> float:
            known = [metric for member in members if (metric := metrics[member]) is not None]
            return fmean(known) if len(known) == len(members) else math.inf

        ranked = sorted(groups, key=lambda name: (worth(groups[name]), name))  # never by place: packs differ
        kept = math.ceil(len(ranked) / self.eta)
        return sorted(m for name in ranked[kept:] for m in groups[name] if metrics[m] is not None)


@dataclass(frozen=True)
class RungTarget:
    """How far a pack trains: to ``rung``, where its trials wait for those they are compared with; None: to the end.

    A pack of all ``group`` trials that are compared does not wait: from that rung on it judges itself.
    """

    rung: int | None = None
    group: int = 0


def configuration(trial: Trial) -> str:
    """What trials have in common that differ by their seed alone."""
    return json.dumps({name: part for name, part in trial.spec.items() if name != "seed"}, sort_keys=True)
