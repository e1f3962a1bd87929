"""Two configurations, or two sweeps: what changed, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dse.errors import UserError, nearest
from dse.number_format import number
from dse.report.analysis.configs import ALL
from dse.report.analysis.front_draws import front_draws
from dse.report.analysis.noise_words import in_doubt
from dse.report.analysis.paired_configs import losses, paired, paired_losses
from dse.report.analysis.tidy import label_text
from dse.report.questions.answer import Answer, Study
from dse.report.questions.recipes import compare_recipes, points, verdict
from dse.stats import Estimate
from dse.text import listing, plural

if TYPE_CHECKING:
    from dse.sweep import Cell

_MOST = 12


def compare_configs(study: Study, question: str, a: str, b: str) -> Answer:
    """Whether ``a`` loses less than ``b``, on each task and over all, and which options differ. Raises UserError."""
    table = study.table
    if (by_recipe := compare_recipes(study, question, a, b)) is not None:
        return by_recipe
    one, other = (known_config(study, name) for name in (a, b))
    found = paired(table, one, other)
    by_task = {task: paired(table, one, other, task) for task in table.tasks}
    if math.isnan(found.mean):
        return Answer(question, _not_compared(study, one, other, by_task), study.trials([one, other]))
    text = f"{one} {verdict(found)} {other}: {points(found)} points of the improvement over {plural(found.n, 'seed')}"
    if len(table.tasks) > 1:
        text += f" ({', '.join(f'{task} {points(own)}' for task, own in by_task.items())})"
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
    lost = [losses(study.table) for study in (a, b)]
    uids = [{(r["task"], r["seed"], r["config"]): r["uid"] for r in s.table.rows} for s in (a, b)]
    baselines = {row["config"] for row in a.table.rows if row["is_baseline"]}
    both = [name for name in names[0] if name in names[1] and name not in baselines]
    keys = {name: [key for key in uids[0] if key[2] == name and key in uids[1]] for name in both}
    same = [name for name in both if keys[name] and all(uids[0][key] == uids[1][key] for key in keys[name])]
    changed = {name: paired_losses(tasks, (lost[1], name), (lost[0], name)) for name in both if name not in same}
    if same:
        yield f"  the same trials in both: {plural(len(same), 'configuration')}"
    for name, found in sorted(changed.items(), key=lambda item: -abs(item[1].mean) if item[1].n else 0.0)[:_MOST]:
        doubt = in_doubt(found)
        clear = f" ({doubt})" if doubt else " (beyond the noise)"
        yield f"  {name}: B minus A {points(found)} points of the improvement lost{clear}"
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
    if mine := [config for config in names if config.split(" ")[0] == name]:
        text = f"{study.sweep.name} has {plural(len(mine), 'configuration')} of {name!r}, none of that name alone; "
        raise UserError(f"{text}for example {mine[0]!r}")
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


def _differences(a: Cell, b: Cell, axes: list[str]) -> list[str]:
    """The axes on which two cells have other labels; 'unset' where one has none."""
    both = [(axis, label_text(a.labels.get(axis)), label_text(b.labels.get(axis))) for axis in axes]
    return [f"{axis} ({x or 'unset'} against {y or 'unset'})" for axis, x, y in both if x != y]


def _not_compared(study: Study, one: str, other: str, by_task: Mapping[str, Estimate]) -> str:
    """Where no difference over all tasks is known: why, task by task, and what is known."""
    why: dict[str, list[str]] = {}
    for task, own in by_task.items():
        if math.isnan(own.mean):
            for config in (one, other):
                rows = [row for row in study.table.rows if (row["task"], row["config"]) == (task, config)]
                reasons = list(dict.fromkeys(row["why"] for row in rows if row["why"])) if rows else ["not part of it"]
                if reasons:
                    why.setdefault(f"{config}: {listing(reasons)}", []).append(task)
    several = len(by_task) > 1
    told = [f"{reason}{f' on {listing(tasks)}' if several else ''}" for reason, tasks in why.items()]
    text = f"{one} and {other} cannot be compared{' over all tasks' if several else ''}: "
    text += "; ".join(told) if told else "no seed has a result of both"
    known = [f"{task} {points(own)}" for task, own in by_task.items() if not math.isnan(own.mean)]
    return (
        f"{text}. Known in points of the improvement, {one} minus {other}: {', '.join(known)}." if known else f"{text}."
    )


__all__ = ["compare_configs", "compare_studies", "known_config"]
