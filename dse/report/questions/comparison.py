"""Two configurations, or two sweeps: what changed, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dse.errors import UserError, nearest
from dse.number_format import UNKNOWN, interval, number
from dse.report.analysis.configs import ALL
from dse.report.analysis.front_draws import front_draws
from dse.report.analysis.tidy import TidyTable, label_text
from dse.report.questions.answer import Answer, Study
from dse.stats import NO_ESTIMATE, Estimate, combine, estimate
from dse.text import listing, plural

if TYPE_CHECKING:
    from dse.sweep import Cell

_MOST = 12


def paired(table: TidyTable, config: str, reference: str, task: str = "") -> Estimate:
    """Mean paired difference of the improvement lost, ``config`` minus ``reference``, seed by seed.

    Over all tasks where none is named.
    """
    lost: dict[tuple[str, str, str], float] = {
        (row["task"], row["seed"], row["config"]): row["lost"] for row in table.rows
    }
    return _over_tasks([task] if task else table.tasks, lost, config, lost, reference)


def compare_configs(study: Study, question: str, a: str, b: str) -> Answer:
    """Whether ``a`` loses less than ``b``, on each task and over all, and which options differ. Raises UserError."""
    one, other = (known_config(study, name) for name in (a, b))
    table = study.table
    found = paired(table, one, other)
    verdict = "loses less than" if found.mean < 0 else "loses more than"
    if math.isnan(found.mean):
        verdict = "cannot be compared on every task with"
    elif not found.df > 0:
        verdict += " (one seed, no interval)"
    elif not found.excludes_zero:
        verdict = "is not told apart from"
    text = f"{one} {verdict} {other}: {_points(found)} points of the improvement over {plural(found.n, 'seed')}"
    if len(table.tasks) > 1:
        text += f" ({', '.join(f'{task} {_points(paired(table, one, other, task))}' for task in table.tasks)})"
    cost = {row["config"]: row["overhead"] for row in table.rows}
    text += f", at {number(cost[one])} against {number(cost[other])} % overhead"
    cells = {cell.config: cell for cell in table.cells.values()}
    apart = _differences(cells[one], cells[other], ["recipe", *table.axes])
    text += f"; they differ in {listing(apart)}" if apart else ""
    return Answer(question, f"{text}.", study.trials([one, other]))


def compare_studies(a: Study, b: Study) -> Iterator[str]:
    """Lines: which configurations are in one sweep alone, what those in both lose in each, and the two fronts."""
    names = [list(dict.fromkeys(study.table.frame["config"])) for study in (a, b)]
    tasks = [task for task in a.table.tasks if task in b.table.tasks]
    yield f"A: {a.sweep.name}, {plural(len(names[0]), 'configuration')}; B: {b.sweep.name}, {len(names[1])}"
    for label, mine, theirs in (("A", *names), ("B", *names[::-1])):
        if alone := [name for name in mine if name not in theirs]:
            more = f" and {len(alone) - _MOST} more" if len(alone) > _MOST else ""
            yield f"  only in {label}: {', '.join(alone[:_MOST])}{more}"
    if not tasks:
        yield "  no task is in both sweeps, so nothing else can be compared"
        return
    lost = [{(r["task"], r["seed"], r["config"]): r["lost"] for r in s.table.rows} for s in (a, b)]
    uids = [{(r["task"], r["seed"], r["config"]): r["uid"] for r in s.table.rows} for s in (a, b)]
    baselines = {row["config"] for row in a.table.rows if row["is_baseline"]}
    both = [name for name in names[0] if name in names[1] and name not in baselines]
    keys = {name: [key for key in uids[0] if key[2] == name and key in uids[1]] for name in both}
    same = [name for name in both if keys[name] and all(uids[0][key] == uids[1][key] for key in keys[name])]
    changed = {name: _over_tasks(tasks, lost[1], name, lost[0], name) for name in both if name not in same}
    if same:
        yield f"  the same trials in both: {plural(len(same), 'configuration')}"
    for name, found in sorted(changed.items(), key=lambda item: -abs(item[1].mean) if item[1].n else 0.0)[:_MOST]:
        clear = " (beyond the noise)" if found.excludes_zero else ""
        yield f"  {name}: B minus A {_points(found)} points of the improvement lost{clear}"
    if len(changed) > _MOST:
        yield f"  and {len(changed) - _MOST} more in both"
    yield from _fronts(a, b)


def known_config(study: Study, name: str) -> str:
    """A configuration of the sweep; a name of one that turned out to be the same trial finds it. Raises UserError."""
    from dse.sweep import config_of

    names = {cell.config: cell.config for cell in study.table.cells.values()}
    also = {config_of(labels): cell.config for cell in study.table.cells.values() for labels in cell.also}
    if found := (names | also | names).get(name):
        return found
    raise UserError(f"{study.sweep.name} has no configuration {name!r}{nearest(name, list(names))}")


def _fronts(a: Study, b: Study) -> Iterator[str]:
    fronts = [study.front for study in (a, b)]
    if any(front is None for front in fronts):
        return
    corner = [max(front.reference[i] for front in fronts if front) for i in (0, 1)]
    again = [front_draws(study.table, study.configs, (corner[0], corner[1])) for study in (a, b)]
    areas = [f"{number(one.hypervolume)} ({number(one.low)} to {number(one.high)})" for one in again if one]
    at = f"({number(corner[0])} % overhead, {number(100 * corner[1])} % lost)"
    yield f"  hypervolume to {at}: A {areas[0]}, B {areas[1]} points²"
    members = []
    for study in (a, b):
        rows = study.configs[(study.configs["task"] == ALL) & study.configs["front"]].sort_values("overhead")
        members.append([str(name) for name in rows["config"]])
    for label, mine, theirs in (("A", *members), ("B", *members[::-1])):
        if alone := [name for name in mine if name not in theirs]:
            yield f"  on the front of {label} alone: {', '.join(alone)}"


def _over_tasks(
    tasks: list[str],
    mine: dict[tuple[str, str, str], float],
    config: str,
    theirs: dict[tuple[str, str, str], float],
    reference: str,
) -> Estimate:
    strata = []
    for task in tasks:
        seeds = [seed for at, seed, name in mine if (at, name) == (task, config)]
        strata.append(estimate(mine[task, s, config] - theirs.get((task, s, reference), math.nan) for s in seeds))
    return combine(strata) if strata else NO_ESTIMATE


def _differences(a: Cell, b: Cell, axes: list[str]) -> list[str]:
    """The axes on which two cells have other labels; 'unset' where one has none."""
    both = [(axis, label_text(a.labels.get(axis)), label_text(b.labels.get(axis))) for axis in axes]
    return [f"{axis} ({x or 'unset'} against {y or 'unset'})" for axis, x, y in both if x != y]


def _points(e: Estimate) -> str:
    return interval(e.mean, e.half, scale=100, limit=2, sign=True) if not math.isnan(e.mean) else UNKNOWN


__all__ = ["compare_configs", "compare_studies", "known_config", "paired"]
