"""Training curves: the loss itself, and its paired difference to the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dse.report.analysis.tidy import TidyTable
from dse.report.analysis.training_curves import HELD_OUT, TRAINING
from dse.report.figures.drawing import Drawing
from dse.report.figures.style import MUTED, Style, finished, new_figure, theme, title_lines
from dse.results.record import DIVERGED, OK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_SMOOTH = 15
"""Differences are running means over this share of the curve's points."""


def training(table: TidyTable, points: pd.DataFrame, styles: dict[str, Style]) -> Drawing | None:
    """A row per task: training loss, its difference to the baseline, and held-out metrics where there are several."""
    tasks = [task for task in table.tasks if task in set(points["task"])]
    if not tasks:
        return None
    steps = points[points["kind"] == HELD_OUT].groupby("task")["step"].nunique()
    several = set(steps[steps > 2].index)
    columns = 3 if several else 2
    with theme():
        figure = new_figure(2.65 * len(tasks) + 0.5)
        grid = figure.subplots(len(tasks), columns, squeeze=False)
        for row, task in zip(grid, tasks, strict=True):
            mine = points[points["task"] == task]
            train = mine[mine["kind"] == TRAINING]
            row[0].set_title(title_lines(f"{task}: training loss", columns))
            _losses(row[0], train, styles)
            row[1].set_title(title_lines(f"{task}: difference to {table.baseline}, same seed", columns))
            _differences(row[1], train[train["recipe"] != table.baseline], styles)
            if task in several:
                row[2].set_title(title_lines(f"{task}: held-out {table.metric[task]}", columns))
                _losses(row[2], mine[mine["kind"] == HELD_OUT], styles, marker=True)
            elif several:
                row[2].set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("step")
        _legend(figure, points, styles)
        return finished(figure)


def _losses(axes: Axes, points: pd.DataFrame, styles: dict[str, Style], marker: bool = False) -> None:
    means = _draw(axes, points, "value", styles, marker)
    if not means or min(means) <= 0 or max(means) / min(means) < 20:
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.set_ylim(min(means) / 1.25, max(means) * 1.25)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if max(means) / min(means) < 300 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _differences(axes: Axes, points: pd.DataFrame, styles: dict[str, Style]) -> None:
    known = points[points["difference"].notna()]
    if len(known):
        window = max(1, known["step"].nunique() // _SMOOTH)
        runs = known.groupby(["config", "seed"], sort=False)["difference"]
        known = known.assign(difference=runs.transform(lambda run: run.rolling(window, 1, center=True).mean()))
    _draw(axes, known, "difference", styles)
    axes.axhline(0, color=MUTED, lw=1, zorder=1)


def _draw(axes: Axes, points: pd.DataFrame, what: str, styles: dict[str, Style], marker: bool = False) -> list[float]:
    """Mean and range over the seeds that finished; each diverged seed alone, thin, up to its cross.

    Returns the means, and limits the axis to the trials that finished where there are any.
    """
    whole = points[points["status"] == OK]
    stats = whole.groupby(["config", "recipe", "step"], sort=False)[what].agg(["mean", "min", "max"]).reset_index()
    stats = stats.sort_values("step", kind="stable")
    for (config, recipe), part in stats.groupby(["config", "recipe"], sort=False):
        style = styles[str(recipe)]
        axes.fill_between(part["step"], part["min"], part["max"], color=style.color, alpha=0.16, lw=0)
        line: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
        shape: dict[str, Any] = {
            "marker": style.marker if marker else None,
            "ms": 4,
            "mec": "white",
            "label": str(config),
        }
        axes.plot(part["step"], part["mean"], color=style.color, lw=1.5, zorder=3, **shape, **line)
    if len(stats):
        _limit(axes, [*stats["min"], *stats["max"]])
    for (_, recipe, _), part in points[points["status"] == DIVERGED].groupby(["config", "recipe", "seed"], sort=False):
        color = styles[str(recipe)].color
        axes.plot(part["step"], part[what], color=color, lw=0.9, alpha=0.8)
        low, high = axes.get_ylim()
        last = part.iloc[-1]
        axes.plot(
            last["step"], min(max(last[what], low), high), "X", color=color, ms=7, mec="white", clip_on=False, zorder=6
        )
    axes.set_xlabel("")
    axes.set_ylabel("")
    return list(stats["mean"]) if len(stats) else list(points[what])


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
