"""Alarms of a sweep: the trials whose products were off by more than their recipe explains, in groups."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from dse.alarms.verdicts import Alarm, alarms
from dse.report.analysis.tidy import TidyTable, label_text
from dse.shell import command

MOST = 100


@dataclass(frozen=True)
class AlarmGroup:
    """An alarm that several seeds of a task and configuration raise: ``where``: layer and GEMM; ``text``: what was seen
    in the first of them; ``seeds``: 'k of n'; ``why``: the command that shows its details."""

    task: str
    config: str
    where: str
    text: str
    seeds: str
    why: str


@dataclass(frozen=True)
class AlarmCause:
    """Alarms of one kind that a configuration raises: ``meaning`` in words; ``count``: products of layers, on all
    tasks, in so many ``trials``; ``task``, ``where`` (layer and GEMM) and ``text``: what was seen in one of them."""

    config: str
    meaning: str
    count: int
    trials: int
    task: str
    where: str
    text: str


_MEANINGS = {
    "gain": "the size of a product is off",
    "error": "the error of a product is too large",
    "unquantized": "a product is not quantized",
    "repeats": "random bits repeat",
    "no gradient": "a weight gradient is zero",
    "zeros": "much of a weight gradient is zero",
    "not finite": "a product is not finite",
    "lost": "the recipe itself loses a part of a product",
}


def raised(table: TidyTable) -> dict[str, list[Alarm]]:
    """uid -> its alarms, of the cells that raise some; zeros are held against the paired baseline's."""
    found = {}
    for uid, record in table.records.items():
        baseline = table.paired_baseline(uid)
        if own := alarms(record.gemm_checks, baseline.gemm_checks if baseline else ()):
            found[uid] = own
    return found


def alarm_causes(table: TidyTable) -> list[AlarmCause]:
    """One per configuration and kind of alarm, those of the most trials first."""
    found: dict[tuple[str, str], list[tuple[str, Alarm]]] = defaultdict(list)
    for uid, own in raised(table).items():
        for alarm in own:
            found[table.cells[uid].config, alarm.kind].append((uid, alarm))
    causes = []
    for (config, kind), alarmed in found.items():
        products = {(label_text(table.cells[uid].labels["task"]), alarm.layer, alarm.gemm) for uid, alarm in alarmed}
        uid, alarm = alarmed[0]
        task, where = label_text(table.cells[uid].labels["task"]), f"{alarm.layer} {alarm.gemm}"
        trials = len({one for one, _ in alarmed})
        causes.append(AlarmCause(config, _MEANINGS[kind], len(products), trials, task, where, alarm.text))
    return sorted(causes, key=lambda one: -one.trials)


def alarm_groups(table: TidyTable, results: Path | None = None) -> list[AlarmGroup]:
    """At most ``MOST`` groups, those of the most seeds first."""
    groups: dict[tuple[str, str, str, str], list[tuple[str, Alarm]]] = defaultdict(list)
    seeds: dict[tuple[str, str], int] = defaultdict(int)
    for uid in table.records:
        cell = table.cells[uid]
        seeds[label_text(cell.labels["task"]), cell.config] += 1
    for uid, own in raised(table).items():
        cell = table.cells[uid]
        for alarm in own:
            key = (label_text(cell.labels["task"]), cell.config, f"{alarm.layer} {alarm.gemm}", alarm.kind)
            groups[key].append((uid, alarm))
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [
        AlarmGroup(
            task,
            config,
            where,
            found[0][1].text,
            f"{len(found)} of {seeds[task, config]}",
            command("why", found[0][0], results=results),
        )
        for (task, config, where, _), found in ordered[:MOST]
    ]
