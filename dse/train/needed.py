"""What trials need of others before they can begin: trained weights, read from the results folder or trained now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dse.pack.grouping import signature
from dse.pack.starts import ModelWeights
from dse.results.record import Record
from dse.train.context import TrainContext
from dse.train.weights import read_weights
from dse.trial import Trial


class Needed(NamedTuple):
    """What trials need of others: ``weights`` by uid, and for trials without any the reason, by uid."""

    weights: Mapping[str, ModelWeights]
    reasons: Mapping[str, str]

    def reason(self, trial: Trial) -> str:
        """Why a trial cannot begin, or empty."""
        return next((self.reasons[one.uid] for one in trial.needs if one.uid in self.reasons), "")


def needed_weights(
    trials: Sequence[Trial],
    context: TrainContext,
    run_pack: Callable[[Sequence[Trial], TrainContext], Sequence[Record]],
) -> Needed:
    """The weights that ``trials`` need: from the results folder, or trained now with ``run_pack`` (and kept there)."""
    results = context.options.results
    needed = {one.uid: one for trial in trials for one in trial.needs}
    weights: dict[str, ModelWeights] = {}
    if results:
        weights = {uid: own for uid, one in needed.items() if (own := read_weights(results, one)) is not None}
    groups: dict[str, list[Trial]] = {}
    for uid, one in needed.items():
        if uid not in weights:
            groups.setdefault(signature(one), []).append(one)
    reasons: dict[str, str] = {}
    for group in groups.values():
        plain = replace(context.options, halving=None, probes=None, keep_weights=results is not None)
        alone = replace(context, options=plain, target=None, on_done=None, keep=weights.__setitem__)
        for record in run_pack(group, alone):
            if record.uid not in weights:
                reasons[record.uid] = f"it starts from a trial that has {record.status}: {record.error or record.uid}"
    return Needed(weights, reasons)


__all__ = ["Needed", "needed_weights"]
