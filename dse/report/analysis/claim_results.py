"""Published claims tested on a sweep's own trials: the difference of two recipes by task, and the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dse.numerics.registry import to_data
from dse.report.analysis.claim_list import CLAIMS, Claim
from dse.report.analysis.learned import learned_at
from dse.report.analysis.post_claims import POST_CLAIMS
from dse.report.analysis.published import recipe_content
from dse.report.analysis.tidy import TidyTable, label_text
from dse.results.record import DIVERGED, OK, Record
from dse.stats import CONFIDENCE, Estimate, estimate

Verdict = Literal["reproduced", "not reproduced", "not visible at this size", "not visible: both compute the same here"]
REPRODUCED: Verdict = "reproduced"
CONTRADICTED: Verdict = "not reproduced"
NOT_VISIBLE: Verdict = "not visible at this size"
ABSENT: Verdict = "not visible: both compute the same here"
"""The task lacks the part that the recipes differ in, attention for example: every number of each pair is equal."""


@dataclass(frozen=True)
class ClaimResult:
    """A claim on one task.

    ``difference``, as a share of the baseline's improvement, over pairs of trials of one seed: what the recipe that is
    said to be worse loses beyond the other; of a claim that two are the same, what the first of them loses beyond the
    second, so that a quantized recipe that loses more than what it is measured by has a positive one; ``learned``: of a
    task that is learned at once or never, how many seeds have, (better, worse); ``diverged``: trials of each that have;
    ``seeds``: pairs that count.
    """

    claim: Claim
    task: str
    difference: Estimate
    seeds: int
    diverged: tuple[int, int]
    learned: tuple[int, int] | None
    verdict: Verdict


@dataclass(frozen=True)
class _Trial:
    lost: float  # infinite where it has diverged
    learned: bool | None
    record: Record


_Trials = dict[tuple[str, str, int], _Trial]
"""(task, the rest of the training and of the start as text, seed) -> the trial."""


def claim_results(table: TidyTable, claims: Sequence[Claim] = (*CLAIMS, *POST_CLAIMS)) -> list[ClaimResult]:
    """Every claim on every task of which the sweep has pairs of its recipes, in the order of the claims."""
    trials: dict[str, _Trials] = {}
    lost = dict(zip(table.frame["uid"], table.frame["lost"], strict=True)) if len(table.frame) else {}
    for uid, record in table.records.items():
        cell = table.cells[uid]
        if record.status not in (OK, DIVERGED):
            continue
        own = math.inf if record.status == DIVERGED else (0.0 if cell.is_baseline else float(lost[uid]))
        threshold = cell.trial.task.learned
        learned = None if threshold is None else learned_at(record, threshold) is not None
        rest = json.dumps([to_data(cell.trial.training), cell.trial.spec.get("start")], sort_keys=True)
        key = label_text(cell.labels["task"]), rest, cell.trial.seed
        trials.setdefault(recipe_content(cell.trial.recipe), {})[key] = _Trial(own, learned, record)
    found = []
    for claim in claims:
        better, worse = (trials.get(recipe_content(recipe), {}) for recipe in (claim.better, claim.worse))
        for task in table.tasks:
            pairs = [(one, worse[key]) for key, one in better.items() if key[0] == task and key in worse]
            if pairs := [pair for pair in pairs if not any(math.isnan(one.lost) for one in pair)]:
                found.append(_tested(claim, task, pairs))
    return found


def _tested(claim: Claim, task: str, pairs: Sequence[tuple[_Trial, _Trial]]) -> ClaimResult:
    both = [(a.lost, b.lost) for a, b in pairs]
    diverged = sum(math.isinf(a) for a, _ in both), sum(math.isinf(b) for _, b in both)
    known = [(a, b) for a, b in both if not math.isinf(a) and not math.isinf(b)]
    difference = estimate(a - b if claim.same else b - a for a, b in known)
    learned = None
    if pairs[0][0].learned is not None:
        learned = sum(bool(a.learned) for a, _ in pairs), sum(bool(b.learned) for _, b in pairs)
    if all(_equal(a.record, b.record) for a, b in pairs):
        verdict = ABSENT
    elif learned is not None:
        verdict = _of_shares(claim, *learned, len(pairs))
    elif any(diverged):
        verdict = _of_order(claim, [(b > a) - (b < a) for a, b in both])
    else:
        verdict = _of_interval(claim, difference)
    return ClaimResult(claim, task, difference, len(pairs), diverged, learned, verdict)


def _equal(one: Record, other: Record) -> bool:
    """Whether two trials have the same losses at every step, bit for bit, and the same metrics at the end."""
    return (one.curve, one.evals, one.metrics) == (other.curve, other.evals, other.metrics)


def _of_interval(claim: Claim, difference: Estimate) -> Verdict:
    """By the 95 % interval of the difference: what it excludes is decided."""
    if not difference.df > 0:
        return NOT_VISIBLE
    if claim.same:
        if -claim.margin < difference.low and difference.high < claim.margin:
            return REPRODUCED
        beyond = difference.low > 0 or difference.high < 0
        return CONTRADICTED if beyond else NOT_VISIBLE
    if difference.low > 0:
        return REPRODUCED
    return CONTRADICTED if difference.high < claim.margin else NOT_VISIBLE


def _of_order(claim: Claim, signs: Sequence[int]) -> Verdict:
    """By the signs of the differences alone, where trials have diverged: a two-sided sign test."""
    from scipy.stats import binomtest

    up, down = signs.count(1), signs.count(-1)
    decided = up + down > 0 and binomtest(up, up + down).pvalue < 1 - CONFIDENCE
    return _decided(claim, up > down) if decided else NOT_VISIBLE


def _of_shares(claim: Claim, better: int, worse: int, seeds: int) -> Verdict:
    """By how many seeds have learned: Fisher's exact test, two-sided."""
    from scipy.stats import fisher_exact

    decided = fisher_exact([[better, seeds - better], [worse, seeds - worse]]).pvalue < 1 - CONFIDENCE
    return _decided(claim, better > worse) if decided else NOT_VISIBLE


def _decided(claim: Claim, as_said: bool) -> Verdict:
    return REPRODUCED if as_said and not claim.same else CONTRADICTED


__all__ = ["ABSENT", "CONTRADICTED", "NOT_VISIBLE", "REPRODUCED", "ClaimResult", "Verdict", "claim_results"]
