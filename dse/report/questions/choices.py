"""Which configuration to take: the best under an overhead, the cheapest within a loss, and what to try next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dse.errors import UserError, nearest
from dse.number_format import interval, number, percent, probability
from dse.report.analysis.configs import ALL
from dse.report.analysis.noise_words import in_doubt
from dse.report.analysis.paired_configs import paired
from dse.report.analysis.tidy import MISSING, row_dicts
from dse.report.questions.answer import Answer, Study
from dse.report.questions.predicted import promising
from dse.results.record import DIVERGED, FAILED, STOPPED
from dse.text import listing, plural

if TYPE_CHECKING:
    import pandas as pd

_MOST = 3


def best_under(study: Study, question: str, overhead: float = math.inf, task: str = "") -> Answer:
    """The configuration that loses least among those of at most ``overhead`` percent, and how far the next is."""
    rows = _eligible(study, task)
    mine = rows[rows["overhead"] <= overhead].sort_values("lost_mean")
    where = _where(study, task)
    limit = "" if math.isinf(overhead) else f" under {overhead:g} % overhead"
    kind = _kind(rows)
    if mine.empty:
        cheapest = f"; the cheapest costs {number(rows['overhead'].min())} %" if len(rows) else ""
        return Answer(question, f"No configuration{limit} has a result on {where}{cheapest}.")
    first, *others = row_dicts(mine)
    text = f"Best {kind}{limit}: {_described(first)} on {where} ({plural(first['seeds'], 'seed')})"
    chosen = [first["config"]]
    if others:
        chosen.append(others[0]["config"])
        behind = paired(study.table, others[0]["config"], first["config"], task)
        apart = interval(behind.mean, behind.half, scale=100, limit=2)
        doubt = in_doubt(behind)
        text += f"; next is {others[0]['config']}, {apart} points behind{f' ({doubt})' if doubt else ''}"
    return Answer(question, f"{text}.{_left_out(study, task)}", study.trials(chosen, task))


def cheapest_within(study: Study, question: str, lost: float, task: str = "") -> Answer:
    """The least overhead among the configurations that lose at most a share of the improvement."""
    rows = _eligible(study, task).sort_values(["overhead", "lost_mean"])
    where, limit, kind = _where(study, task), f"{100 * lost:g} %", _kind(rows)
    sure = rows[rows["lost_mean"] + rows["lost_half"] <= lost]
    likely = rows[rows["lost_mean"] <= lost]
    if len(sure):
        row = row_dicts(sure)[0]
        text = f"Cheapest {kind} within {limit}: {_described(row)} on {where}; its whole 95 % interval is within"
        if len(likely) and (other := row_dicts(likely)[0])["config"] != row["config"]:
            text += f" (cheaper, but not for certain: {_described(other)})"
        return Answer(question, f"{text}.", study.trials([row["config"]], task))
    if len(likely):
        row = row_dicts(likely)[0]
        known = "its interval reaches beyond" if math.isfinite(row["lost_half"]) else "one seed gives no interval"
        text = f"Cheapest {kind} within {limit}: {_described(row)} on {where}, by the mean; {known}."
        return Answer(question, text, study.trials([row["config"]], task))
    if rows.empty:
        return Answer(question, f"No configuration has a result on {where} yet.")
    row = row_dicts(rows.sort_values("lost_mean"))[0]
    text = f"No {kind} loses at most {limit} on {where}; the closest: {_described(row)}."
    return Answer(question, text, study.trials([row["config"]], task))


def next_trials(study: Study, question: str) -> Answer:
    """The trials that would most likely change the front: cells to run, and seeds of those that may be on it."""
    missing = int((study.table.frame["status"] == MISSING).sum()) if len(study.table.frame) else 0
    parts, trials = [], []
    if missing and (likely := promising(study)):
        shown = [
            f"{one.config} (P {probability(one.probability)}, {percent(one.lost, one.half)} expected)" for one in likely
        ]
        parts.append(f"of the {plural(missing, 'trial')} to run first {listing(shown[:_MOST])}")
    elif missing:
        parts.append(f"the {plural(missing, 'trial')} of the sweep that {'has' if missing == 1 else 'have'} not run")
    chances = study.front.probability if study.front else {}
    unsure = sorted((p * (1 - p), name, p) for name, p in chances.items() if 0.02 < p < 0.98)[::-1][:_MOST]
    if unsure:
        shown = [f"{name} (P {p:.2f})" for _, name, p in unsure]
        parts.append(f"further seeds of {listing(shown)}, which may or may not be on the front")
        trials = [name for _, name, _ in unsure]
    if not parts:
        return Answer(question, f"Try next: {_nothing_unsure(study, chances)}.")
    return Answer(
        question, f"Try next: {'; and '.join(parts)} (P: probability of being on the front).", study.trials(trials)
    )


def _nothing_unsure(study: Study, chances: Mapping[str, float]) -> str:
    """What to try where all has run and no place on the front is in doubt."""
    if not chances:
        counts = Counter(str(status) for status in study.table.frame["status"])
        lost = {status: n for status in (FAILED, DIVERGED, STOPPED) if (n := counts[status])}
        if not lost:
            return "nothing of this sweep: no configuration has a gap to the baseline"
        told = listing([f"{n} {status}" for status, n in lost.items()])
        again = ", and run the failed ones again (--retry failed)" if FAILED in lost else ""
        return (
            f"first find out why no configuration has a gap to the baseline ({told} of "
            f"{plural(counts.total(), 'trial')}){again}"
        )
    if any(math.isnan(p) for p in chances.values()):
        return "a second seed: without one nothing is known of the noise"
    return "nothing of this sweep: every configuration is on the front, or off it, in 98 % of draws"


def _kind(rows: pd.DataFrame) -> str:
    """What is chosen from, by the widest of its operands: '4-bit configuration'."""
    return f"{int(rows['bits'].max())}-bit configuration" if len(rows) else "configuration"


def _left_out(study: Study, task: str) -> str:
    """A sentence about the configurations that are not eligible; empty where there are none."""
    rows = study.configs[(study.configs["task"] == (task or ALL)) & ~study.configs["is_baseline"]]
    wide = rows[~rows["narrow"] & rows["lost_mean"].notna()].sort_values("lost_mean")
    parts = []
    if len(wide):
        best = row_dicts(wide)[0]
        least = f"{best['config']} loses {percent(best['lost_mean'], best['lost_half'])}"
        parts.append(f"{plural(len(wide), 'wider configuration')} ({'of which ' if len(wide) > 1 else ''}{least})")
    if unsound := len(rows) - len(wide) - int(rows["eligible"].sum()):
        parts.append(f"{unsound} without a number on every seed and task")
    return f" Left out: {listing(parts)}." if parts else ""


def known_task(study: Study, name: str) -> str:
    """The task of a name, '' for all. Raises UserError for an unknown one."""
    if name and name not in study.table.tasks:
        raise UserError(f"the sweep has no task {name!r}{nearest(name, study.table.tasks)}")
    return name


def _eligible(study: Study, task: str) -> pd.DataFrame:
    configs = study.configs
    return configs[(configs["task"] == (task or ALL)) & configs["eligible"]]


def _where(study: Study, task: str) -> str:
    return task or (study.table.tasks[0] if len(study.table.tasks) == 1 else "the mean over tasks")


def _described(row: dict[str, Any]) -> str:
    return (
        f"{row['config']} loses {percent(row['lost_mean'], row['lost_half'])} at {number(row['overhead'])} % overhead"
    )


__all__ = ["best_under", "cheapest_within", "known_task", "next_trials"]
