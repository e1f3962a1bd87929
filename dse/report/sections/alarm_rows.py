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


def raised(table: TidyTable) -> dict[str, list[Alarm]]:
    """uid -> its alarms, of the cells that raise some; zeros are held against the paired baseline's."""
    found = {}
    for uid, record in table.records.items():
        baseline = table.records.get(table.cells[uid].baseline_uid)
        if own := alarms(record.gemm_checks, baseline.gemm_checks if baseline else ()):
            found[uid] = own
    return found


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
