"""Aggregates over seeds: one row per task and configuration, and one per configuration over all tasks.

The Pareto fronts are computed on these rows, and the configurations that the report highlights are chosen from them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dse.report.analysis.tidy import MISSING, TidyTable
from dse.results.record import DIVERGED, FAILED, OK, STOPPED
from dse.stats import Estimate, across, combine, estimate
from dse.text import listing, plural

if TYPE_CHECKING:
    import pandas as pd

STATUSES = (OK, DIVERGED, STOPPED, FAILED, MISSING)
ALL = "all tasks"
MOST_HIGHLIGHTS = 12
MOST_WIDE = 3


def aggregate_seeds(table: TidyTable) -> pd.DataFrame:
    """One row per (task, config), then one per config with task = 'all tasks'.

    Columns: task, config, recipe, is_baseline, named, after_training, bits, mean_bits, overhead, relative_time, seeds
    (with a gap), counts ok, diverged, stopped, failed, missing; metric_mean, metric_sd (over seeds), gap_mean,
    gap_half, lost_mean, lost_half (half widths of 95 % intervals over seeds, paired with the baseline by seed),
    lost_half_across (over all tasks: for other tasks of this kind), all of trials with the full budget alone;
    gap_mean[NAME] and gap_half[NAME] to every further baseline; estimate (of lost); why (something is unknown); narrow
    (of the narrowest ``bits`` in the sweep, 4 or less; without those after training beside others, see ``comparable``);
    eligible (narrow, known, no seed diverged or stopped: seeds that went on without the others are the luckier ones);
    front (of overhead and lost, among the eligible); front_time (of relative_time and lost, among all comparable widths
    and the baseline). Over all tasks, ``lost`` is the unweighted mean over tasks and unknown unless it is known on each
    of them.
    """
    import pandas as pd

    if table.frame.empty:
        return pd.DataFrame()
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in table.rows:
        groups.setdefault((cell["task"], cell["config"]), []).append(cell)
    per_task = [_per_task(task, config, cells, table.others) for (task, config), cells in groups.items()]
    by_config: dict[str, list[dict[str, Any]]] = {}
    for row in per_task:
        by_config.setdefault(row["config"], []).append(row)
    rows = per_task + [_over_tasks(table.tasks, rows) for rows in by_config.values()]
    frame = pd.DataFrame(rows)
    placed = comparable(frame)
    others = frame.loc[placed & ~frame["is_baseline"], "bits"]
    limit = max(4, others.min() if len(others) else 0)
    frame["narrow"] = placed & ~frame["is_baseline"] & (frame["bits"] <= limit)
    sound = placed & frame["lost_mean"].notna() & (frame[DIVERGED] == 0) & (frame[STOPPED] == 0)
    frame["eligible"] = sound & frame["narrow"]
    frame["front"] = _fronts(frame[frame["eligible"]], "overhead", frame)
    frame["front_time"] = _fronts(frame[sound], "relative_time", frame)
    return frame


def comparable(configs: pd.DataFrame) -> pd.Series[bool]:
    """Rows whose costs are of one kind: of training; of inference, where all but the baselines quantize after it."""
    trained = ~configs["after_training"]
    return trained if (trained & ~configs["is_baseline"]).any() else trained | True


def task_front(rows: pd.DataFrame) -> list[bool]:
    """Pareto front of one task's rows, by the gap in its own metric; column ``front`` where there is one baseline."""
    gaps = [gap if ok else math.nan for gap, ok in zip(rows["gap_mean"], rows["eligible"], strict=True)]
    return pareto_front(list(rows["overhead"]), gaps)


def pareto_front(x: Sequence[float], y: Sequence[float]) -> list[bool]:
    """Pareto front of two quantities that are both better when lower: whether each point is on it.

    A point is on the front when no other is at most as high in both coordinates and lower in one. Of equal points all
    are or none; a point with a NaN never is. O(n log n).

    >>> pareto_front([0, 1, 2, 2], [5, 3, 4, 1])
    [True, True, False, True]
    """
    points = sorted(
        (a, b, i) for i, (a, b) in enumerate(zip(x, y, strict=True)) if not (math.isnan(a) or math.isnan(b))
    )
    member = [False] * len(x)
    best, best_x = math.inf, math.nan
    for a, b, i in points:
        if b < best or (b == best and a == best_x):
            member[i] = True
            best, best_x = b, a
    return member


class _Row(Protocol):
    @property
    def baseline(self) -> bool: ...


_R = TypeVar("_R", bound=_Row)


def baselines_apart(rows: Sequence[_R], order: Callable[[_R], Any]) -> list[_R]:
    """Rows in an order, a single baseline before them; several after them, where they leave room for what is compared.

    A sweep of training settings has a baseline for each of them, and a table shows its first rows.
    """
    ranked = sorted(rows, key=order)
    baselines = [row for row in ranked if row.baseline]
    others = [row for row in ranked if not row.baseline]
    return baselines + others if len(baselines) == 1 else others + baselines


def highlighted_configs(table: TidyTable, configs: pd.DataFrame) -> list[str]:
    """The configurations that the overview and the curves show: one per recipe, at most MOST_HIGHLIGHTS.

    Of more recipes the baseline's, those of the narrowest operands that lose least, and MOST_WIDE that are wider; in
    the sweep's order.
    """
    chosen = one_per_recipe(table, configs)
    if len(chosen) <= MOST_HIGHLIGHTS:
        return chosen
    overall = configs[(configs["task"] == ALL) & configs["config"].isin(chosen)].sort_values("lost_mean")
    base = list(overall.loc[overall["is_baseline"], "config"])[: MOST_HIGHLIGHTS // 2]
    wide = list(overall.loc[~overall["is_baseline"] & ~overall["narrow"], "config"])
    narrow = list(overall.loc[overall["narrow"], "config"])
    kept = [*base, *wide[:MOST_WIDE], *narrow, *wide[MOST_WIDE:]][:MOST_HIGHLIGHTS]
    return [name for name in chosen if name in kept]


def one_per_recipe(table: TidyTable, configs: pd.DataFrame) -> list[str]:
    """For each recipe the configuration without overrides or, where it was only run with some, its best over all tasks.

    One without stopped seeds if there is any. The baseline's first, then in the sweep's order.
    """
    if configs.empty:
        return []
    overall = configs[configs["task"] == ALL]
    chosen = []
    for recipe in table.recipes:
        mine = overall[overall["recipe"] == recipe]
        rows = mine.assign(partly=mine[STOPPED] > 0).sort_values(
            ["named", "partly", "lost_mean"], ascending=[False, True, True]
        )
        if len(rows):
            chosen.append(str(rows["config"].iloc[0]))
    return chosen


def front_numbers(configs: pd.DataFrame) -> dict[str, str]:
    """Configuration -> its number in the figures, for those on the front whose names are too long for a label.

    Numbers go from the cheapest on; a configuration without overrides is labeled with its recipe's name.
    """
    if configs.empty:
        return {}
    front = configs[(configs["task"] == ALL) & configs["front"] & ~configs["named"]].sort_values("overhead")
    return {str(config): str(i + 1) for i, config in enumerate(front["config"])}


def _per_task(task: str, config: str, cells: list[dict[str, Any]], others: list[str]) -> dict[str, Any]:
    names = ("gap", "lost", "gap_bf16", "metric")
    gap, lost, in_bf16, metric = (estimate(cell[name] for cell in cells) for name in names)
    if cells[0]["is_baseline"]:  # zero by definition, not by measurement
        gap, lost, in_bf16 = (Estimate(e.mean, 0.0, math.nan, e.n) for e in (gap, lost, in_bf16))
    reasons = Counter(cell["why"] for cell in cells if cell["why"])
    further = {name: estimate(cell[f"gap[{name}]"] for cell in cells) for name in others}
    extras = [name for name in cells[0] if name.startswith("metrics.")]
    return _row(cells[0], task, config, lost, dict(Counter(cell["status"] for cell in cells))) | {
        "metric_mean": metric.mean,
        "metric_sd": metric.se * math.sqrt(metric.n),
        "gap_mean": gap.mean,
        "gap_half": gap.half,
        "gap_bf16_mean": in_bf16.mean,
        "gap_bf16_half": in_bf16.half,
        "why": ", ".join(f"{reason} ({plural(n, 'seed')})" for reason, n in reasons.most_common()),
        **{f"gap_mean[{name}]": known.mean for name, known in further.items()},
        **{f"gap_half[{name}]": known.half for name, known in further.items()},
        **{name: estimate(cell[name] for cell in cells).mean for name in extras},
    }


def _over_tasks(tasks: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    absent = [task for task in tasks if task not in {row["task"] for row in rows}]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if math.isnan(row["lost_mean"]):
            reasons.setdefault(row["why"].split(" (")[0] or "unknown", []).append(row["task"])
    if absent:
        reasons["not part"] = absent
    why = [f"{why}{f' on {listing(where)}' if len(where) < len(tasks) else ''}" for why, where in reasons.items()]
    strata = [] if absent else [row["estimate"] for row in rows]
    lost = combine(strata)
    counts = {status: sum(row[status] for row in rows) for status in STATUSES}
    whole = _row(rows[0], ALL, rows[0]["config"], lost, counts)
    return whole | {"why": "; ".join(why), "lost_half_across": across(strata).half}


def _fronts(rows: pd.DataFrame, cost: str, frame: pd.DataFrame) -> pd.Series[bool]:
    """Membership among ``rows``, task by task, for every row of ``frame``."""
    import pandas as pd

    members: set[Any] = set()
    for _, group in rows.groupby("task", sort=False):
        on_front = pareto_front(list(group[cost]), list(group["lost_mean"]))
        members |= {index for index, member in zip(group.index, on_front, strict=True) if member}
    return pd.Series([index in members for index in frame.index], index=frame.index)


def _row(first: Any, task: str, config: str, lost: Estimate, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "task": task,
        "config": config,
        "recipe": first["recipe"],
        "is_baseline": bool(first["is_baseline"]),
        "named": bool(first["named"]),
        "after_training": bool(first["after_training"]),
        "bits": int(first["bits"]),
        "mean_bits": float(first["mean_bits"]),
        "overhead": float(first["overhead"]),
        "relative_time": float(first["relative_time"]),
        "seeds": lost.n,
        **{status: counts.get(status, 0) for status in STATUSES},
        "lost_mean": lost.mean,
        "lost_half": lost.half,
        "estimate": lost,
    }
