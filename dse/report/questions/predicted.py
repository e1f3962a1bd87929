"""Which configurations without a result would most likely be on the front: an additive model of the options."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dse.report.analysis.configs import ALL
from dse.report.analysis.matched_pairs import RECIPE
from dse.report.analysis.tidy import row_dicts
from dse.report.questions.answer import Study


@dataclass(frozen=True)
class Prediction:
    """A configuration that has not run: the improvement that it is expected to lose, with half of the 95 % interval of
    prediction, and the ``probability`` that it is on the front."""

    config: str
    lost: float
    half: float
    probability: float


def promising(study: Study) -> list[Prediction]:
    """The likeliest first; nothing where too few configurations are known to fit one number per option value."""
    import numpy as np
    from scipy.stats import t

    table, configs = study.table, study.configs
    known = {r["config"]: r for r in row_dicts(configs[(configs["task"] == ALL) & configs["eligible"]])}
    axes = [RECIPE, *(axis for axis in table.axes if axis not in table.ranged)]
    rows = row_dicts(table.frame[~table.frame["is_baseline"]].drop_duplicates("config"))
    fitted = [row for row in rows if row["config"] in known]
    levels = [(axis, value) for axis in axes for value in dict.fromkeys(row[axis] for row in fitted)]
    if not fitted:
        return []

    def design(row: dict[str, object]) -> list[float]:
        return [1.0, *(float(row[axis] == value) for axis, value in levels)]

    x = np.array([design(row) for row in fitted])
    y = np.array([known[row["config"]]["lost_mean"] for row in fitted])
    df = len(y) - int(np.linalg.matrix_rank(x))
    if df < 1:
        return []
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    variance = float(((y - x @ weights) ** 2).sum()) / df
    inverse = np.linalg.pinv(x.T @ x)
    run = {name for name, own in table.frame.groupby("config")["uid"] if own.isin(table.records).any()}
    found = []
    for row in rows:
        if row["config"] in run or any((axis, row[axis]) not in levels for axis in axes):
            continue
        at = np.array(design(row))
        lost, se = float(at @ weights), math.sqrt(variance * (1 + float(at @ inverse @ at)))
        bar = min((r["lost_mean"] for r in known.values() if r["overhead"] <= row["overhead"]), default=math.inf)
        chance = 1.0 if math.isinf(bar) else float(t.cdf((bar - lost) / se, df)) if se else float(lost < bar)
        found.append(Prediction(row["config"], lost, float(t.ppf(0.975, df)) * se, chance))
    return sorted(found, key=lambda one: -one.probability)


__all__ = ["Prediction", "promising"]
