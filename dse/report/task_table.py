"""The tasks of a results folder as Markdown: what the baseline reaches, how long a trial takes, how well it ranks.

    python -m dse.report.task_table results gpu-results --agreement reports/x/agreement.csv
    python -m dse.report.task_table results --rates          baselines by learning rate, where there are several

A task is listed once: at the training that recipes were compared at, or at its default one; the name says what differs
from the default. Seeds for 1 %: what a paired t-test needs to show a gap of 1 % of the baseline's improvement (`dse
power`). Seconds are a trial's share of its pack, with the widest pack that was seen. `--agreement` adds the rank
correlations of a report's agreement.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, stdev
from typing import Any

from dse.errors import UserError
from dse.files import unreadable
from dse.number_format import UNKNOWN, number
from dse.numerics.registry import to_data
from dse.report.analysis.power import seeds_needed
from dse.results.record import OK, Record
from dse.results.store import Store
from dse.sweep.definition.entries import label_of_task
from dse.tasks.own import is_path
from dse.trial import Trial


@dataclass
class TaskGroup:
    """The records of one task under one training and start: ``metrics`` of the baseline by seed, ``gaps`` by device
    and configuration; ``initial``: the baseline's metric before the first step.

    ``task``: its name with its options, ``label``: also with what differs from its default training, as in sweeps;
    ``seconds``: of a trial, its share of its pack, by device; ``widths``: of these packs.
    """

    task: str
    label: str
    data: str
    metric: str
    steps: int
    lr: float
    metrics: dict[int, float] = field(default_factory=dict)
    initial: list[float] = field(default_factory=list)
    further: dict[str, list[float]] = field(default_factory=dict)
    gaps: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    widths: dict[str, list[int]] = field(default_factory=dict)


def group_records(records: Sequence[Record]) -> list[TaskGroup]:
    """One per task, training and start. The same trial may be there from several devices."""
    metric = {(record.device, record.uid): record.metric for record in records if record.status == OK}
    found: dict[str, TaskGroup] = {}
    for record in records:
        if is_path(record.trial["task"]):  # a user-defined task: it is not listed, and loading it would run code
            continue
        trial = Trial.from_spec(record.trial, record.recipe)
        what_counts = [record.trial.get(key) for key in ("task", "options", "training", "start")]
        own = json.dumps(what_counts, sort_keys=True)
        if own not in found:
            task, training = trial.task, trial.training
            what = str(getattr(task, "source", getattr(task, "text", "")))
            start = {"start": label_of_task(trial.start.task, _own(trial.start))} if trial.start else {}
            names = label_of_task(task, start), label_of_task(task, {**_own(trial), **start})
            found[own] = TaskGroup(*names, what, task.metric, training.steps, training.lr)
        group, value = found[own], metric.get((record.device, record.uid))
        place = "CPU" if record.device.startswith("cpu") else "GPU"
        group.seconds.setdefault(place, []).append(record.seconds)
        group.widths.setdefault(place, []).append(int(record.pack.get("width", 1)))
        if value is None:
            continue
        if record.uid == record.baseline_uid:
            group.metrics[record.seed] = value
            group.initial += [] if record.metric_initial is None else [record.metric_initial]
            for name, more in record.metrics.items():
                if name != trial.task.metric and more is not None:
                    group.further.setdefault(name, []).append(more)
        elif (base := metric.get((record.device, record.baseline_uid))) is not None:
            group.gaps.setdefault((record.device, record.config), []).append(value - base)
    return list(found.values())


def one_per_task(found: Sequence[TaskGroup]) -> list[TaskGroup]:
    """One of each task: where most gaps are known, then where it trains by its default."""
    best: dict[str, TaskGroup] = {}
    for group in found:
        if group.metrics and (group.task not in best or _worth(group) > _worth(best[group.task])):
            best[group.task] = group
    return list(best.values())


def _worth(group: TaskGroup) -> tuple[int, bool, int]:
    return sum(map(len, group.gaps.values())), group.label == group.task, len(group.metrics)


def task_table(found: Sequence[TaskGroup], correlations: dict[str, str]) -> Iterator[str]:
    """Markdown. ``correlations``: task -> what is known of its ranking."""
    heads = (
        "task, data, steps, baseline, seeds, sd, paired sd, seeds for 1 %, s/trial CPU, s/trial GPU, rank correlation"
    )
    yield from _markdown(heads.split(", "), (_row(group, correlations) for group in one_per_task(found)))


def learning_rate_table(found: Sequence[TaskGroup]) -> Iterator[str]:
    """Markdown: the baseline's mean metric at each learning rate of a task, the best marked (*).

    Means are of the seeds that all rates have; rates that agree to three digits are one.
    """
    tasks: dict[tuple[str, int], dict[float, dict[int, float]]] = {}
    for group in found:
        if group.metrics:
            scan = tasks.setdefault((group.task, group.steps), {})
            scan.setdefault(float(f"{group.lr:.3g}"), {}).update(group.metrics)
    rows = []
    for (task, steps), scan in tasks.items():
        seeds = set.intersection(*(set(known) for known in scan.values()))
        if len(scan) < 3 or not seeds:
            continue
        means = {lr: _mean(scan[lr][seed] for seed in seeds) for lr in sorted(scan)}
        best = min(means, key=means.__getitem__)
        shown = ", ".join(f"{lr:g} {number(mean, 4)}" + "*" * (lr == best) for lr, mean in means.items())
        edge = " (best at the edge)" * (best in (min(means), max(means)))
        rows.append([task, str(steps), str(len(seeds)), shown, f"{best / 2:.3g}{edge}"])
    yield from _markdown(["task", "steps", "seeds", "held-out by learning rate", "half the best"], rows)


def correlations(path: Path) -> dict[str, str]:
    """Task -> its Spearman correlation with the reference, from a report's agreement.csv."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise unreadable(path, error) from None
    mine = [row for row in rows if row.get("kind") == "reference"]
    return {row["against"]: "(reference)" for row in mine} | {
        row["task"]: f"{float(row['spearman']):.2f} ({row['spearman_low'][:5]} to {row['spearman_high'][:5]})"
        for row in mine
    }


def _row(group: TaskGroup, known: dict[str, str]) -> list[str]:
    values = list(group.metrics.values())
    further = ", ".join(f"{name} {number(_mean(more))}" for name, more in list(group.further.items())[:1])
    baseline = f"{group.metric} {number(_mean(values), 4)}" + (f", {further}" if further else "")
    spread = [gap - _mean(gaps) for gaps in group.gaps.values() if len(gaps) > 1 for gap in gaps]
    df = sum(len(gaps) - 1 for gaps in group.gaps.values() if len(gaps) > 1)
    paired = math.sqrt(math.fsum(x * x for x in spread) / df) if df else math.nan
    times = [
        f"{number(median(group.seconds[place]))} (in {max(group.widths[place])})" if place in group.seconds else UNKNOWN
        for place in ("CPU", "GPU")
    ]
    sd = number(stdev(values)) if len(values) > 1 else UNKNOWN
    rank = known.get(group.label, UNKNOWN)
    needed = seeds_needed((_mean(group.initial) - _mean(values)) / 100, paired) if group.initial else None
    noise = [str(len(values)), sd, number(paired), UNKNOWN if needed is None else str(needed)]
    return [group.label, group.data, str(group.steps), baseline, *noise, *times, rank]


def _own(trial: Trial) -> dict[str, Any]:
    """What its training has that its task's default training has not."""
    usual = to_data(trial.task.training())
    return {key: value for key, value in to_data(trial.training).items() if usual.get(key) != value}


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 for a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m dse.report.task_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, nargs="+", help="folders of results")
    parser.add_argument("--rates", action="store_true", help="baselines by learning rate")
    parser.add_argument("--agreement", type=Path, help="agreement.csv of a report")
    given = parser.parse_args(arguments)
    try:
        found = group_records(
            [record for folder in given.results for record in Store(folder).on_each_device(brief=True)]
        )
        if not found:
            raise UserError(f"there are no results in {', '.join(map(str, given.results))}")
        known: dict[str, Any] = correlations(given.agreement) if given.agreement else {}
        for line in learning_rate_table(found) if given.rates else task_table(found, known):
            print(line)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


__all__ = ["TaskGroup", "correlations", "group_records", "learning_rate_table", "main", "one_per_task", "task_table"]

if __name__ == "__main__":
    raise SystemExit(main())
