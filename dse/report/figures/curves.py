"""Training curves: the loss itself, and its paired difference to the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.number_format import interval, number
from dse.report.analysis.tidy import TidyTable
from dse.report.analysis.training_curves import HELD_OUT, TRAINING
from dse.report.figures.drawing import Drawing
from dse.report.figures.point_marks import MarkTitles
from dse.report.figures.style import MUTED, Style, finished, new_figure, theme, title_lines
from dse.results.record import DIVERGED, OK
from dse.stats import estimate
from dse.text import plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_SMOOTH = 15
"""Differences are running means over this share of the curve's points."""
_MOST_POINTS, _LEAST_STEPS = 5_000, 30
"""Points of a figure's lines, of which an even choice is drawn; no fewer steps of a line than these, or all."""
_MOST_TITLES = 400
"""Held-out points of a figure that each tell their value; of more, the lines tell their last."""


@dataclass(frozen=True)
class _Drawn:
    """How lines are drawn: ``styles`` by recipe, ``titles`` of marks, and how many steps of each, None: all."""

    styles: dict[str, Style]
    titles: MarkTitles
    steps: int | None

    def kept(self, stats: pd.DataFrame) -> pd.DataFrame:
        """Rows at an even choice of steps, the first and the last among them."""
        import numpy as np

        steps = np.sort(stats["step"].unique())
        if self.steps is None or len(steps) <= self.steps:
            return stats
        chosen = steps[np.linspace(0, len(steps) - 1, self.steps).round().astype(int)]
        return stats[stats["step"].isin(chosen)]


def training(table: TidyTable, points: pd.DataFrame, styles: dict[str, Style]) -> Drawing | None:
    """A row per task: training loss, its difference to the baseline, and held-out metrics where there are several."""
    tasks = [task for task in table.tasks if task in set(points["task"])]
    if not tasks:
        return None
    evaluated = points[points["kind"] == HELD_OUT].groupby("task")["step"].nunique()
    several = set(evaluated[evaluated > 2].index)
    columns = 3 if several else 2
    steps: int = _MOST_POINTS // (2 * len(points[["task", "config"]].drop_duplicates()))
    titles = MarkTitles()
    drawn = _Drawn(styles, titles, steps if steps >= _LEAST_STEPS else None)
    with theme():
        figure = new_figure(2.65 * len(tasks) + 0.5)
        grid = figure.subplots(len(tasks), columns, squeeze=False)
        for row, task in zip(grid, tasks, strict=True):
            mine = points[points["task"] == task]
            train = mine[mine["kind"] == TRAINING]
            row[0].set_title(title_lines(f"{task}: training loss", columns))
            _losses(row[0], train, drawn)
            row[1].set_title(title_lines(f"{task}: difference to {table.baseline}, same seed", columns))
            _differences(row[1], train[train["recipe"] != table.baseline], drawn)
            if task in several:
                row[2].set_title(title_lines(f"{task}: held-out {table.metric[task]}", columns))
                _losses(row[2], mine[mine["kind"] == HELD_OUT], drawn, marker=True)
            elif several:
                row[2].set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("step")
        _legend(figure, points, styles)
        return finished(figure, titles.texts)


def _losses(axes: Axes, points: pd.DataFrame, drawn: _Drawn, marker: bool = False) -> None:
    means = _draw(axes, points, "value", drawn, marker)
    if not means or min(means) <= 0 or max(means) / min(means) < 20:
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.set_ylim(min(means) / 1.25, max(means) * 1.25)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if max(means) / min(means) < 300 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _differences(axes: Axes, points: pd.DataFrame, drawn: _Drawn) -> None:
    known = points[points["difference"].notna()]
    if len(known):
        window = max(1, known["step"].nunique() // _SMOOTH)
        runs = known.groupby(["config", "seed"], sort=False)["difference"]
        known = known.assign(difference=runs.transform(lambda run: run.rolling(window, 1, center=True).mean()))
    _draw(axes, known, "difference", drawn)
    axes.axhline(0, color=MUTED, lw=1, zorder=1)


def _draw(axes: Axes, points: pd.DataFrame, what: str, drawn: _Drawn, marker: bool = False) -> list[float]:
    """Mean and range over the seeds that finished; each diverged seed alone, thin, up to its cross.

    Returns the means, and limits the axis to the trials that finished where there are any.
    """
    titles, whole = drawn.titles, points[points["status"] == OK]
    stats = whole.groupby(["config", "recipe", "step"], sort=False)[what].agg(["mean", "min", "max"]).reset_index()
    stats = drawn.kept(stats.sort_values("step", kind="stable"))
    for (config, recipe), part in stats.groupby(["config", "recipe"], sort=False):
        style = drawn.styles[str(recipe)]
        mine = whole[whole["config"] == config]
        band: dict[str, Any] = {"color": style.color, "alpha": 0.16, "lw": 0}
        end = _said(mine, what, part["step"].iloc[-1])
        axes.fill_between(part["step"], part["min"], part["max"], gid=titles.id(end), **band)
        line: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
        line |= {"color": style.color, "lw": 1.5, "zorder": 3, "label": str(config)}
        axes.plot(part["step"], part["mean"], gid=titles.id(end), **line)
        if marker:
            shape: dict[str, Any] = {"s": 16, "marker": style.marker, "color": style.color, "ec": "white", "lw": 1}
            marks = axes.scatter(part["step"], part["mean"], zorder=3, **shape)
            if len(stats) <= _MOST_TITLES:
                marks.set_gid(titles.id(*(_said(mine, what, step) for step in part["step"])))
    if len(stats):
        _limit(axes, [*stats["min"], *stats["max"]])
    lost = points[points["status"] == DIVERGED]
    for (config, recipe, seed), part in lost.groupby(["config", "recipe", "seed"], sort=False):
        color = drawn.styles[str(recipe)].color
        said = f"{config}, seed {seed}: diverged, last seen at step {part['step'].iloc[-1]:,}"
        axes.plot(part["step"], part[what], color=color, lw=0.9, alpha=0.8, gid=titles.id(said))
        low, high = axes.get_ylim()
        last = part.iloc[-1]
        axes.plot(
            last["step"], min(max(last[what], low), high), "X", color=color, ms=7, mec="white", clip_on=False, zorder=6,
            gid=titles.id(said),
        )  # fmt: skip
    axes.set_xlabel("")
    axes.set_ylabel("")
    return list(stats["mean"]) if len(stats) else list(points[what])


def _said(trials: pd.DataFrame, what: str, step: int) -> str:
    """What a configuration's mark tells: its value at a step, with the interval over seeds."""
    there = trials[trials["step"] == step]
    mean = estimate(there[what])
    value = interval(mean.mean, mean.half, sign=what == "difference")
    ends = f", from {number(there[what].min(), 4)} to {number(there[what].max(), 4)}" if mean.n > 1 else ""
    kind = f"{there['kind'].iloc[0]}{'' if what == 'value' else ', difference to the baseline'}"
    return f"{there['config'].iloc[0]}\n{kind} {value} at step {step:,}\n{plural(mean.n, 'seed')}{ends}"


def _limit(axes: Axes, values: list[float]) -> None:
    low, high = min(values), max(values)
    room = 0.05 * (high - low or abs(high) or 1.0)
    axes.set_ylim(low - room, high + room)


def _legend(figure: Figure, points: pd.DataFrame, styles: dict[str, Style]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for recipe in dict.fromkeys(points["recipe"]):
        style = styles[recipe]
        line = Line2D([], [], color=style.color, lw=2.4, label=recipe)
        if style.dashes:
            line.set_dashes(style.dashes)
        handles.append(line)
    figure.legend(handles=handles, loc="outside upper left", ncols=min(8, len(handles)), handlelength=1.4)
