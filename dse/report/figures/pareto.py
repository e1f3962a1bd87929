"""The Pareto figures: accuracy lost against cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL, comparable, task_front
from dse.report.analysis.tidy import TidyTable
from dse.report.figures import panel
from dse.report.figures.drawing import Drawing
from dse.report.figures.style import Style, finished, fix_layout, new_figure, theme, title_lines

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_LABELED = 16
_OVERHEAD = "overhead: extra vector operations (% of the FP4 GEMM time)"


def overall(
    table: TidyTable, configs: pd.DataFrame, styles: dict[str, Style], numbers: dict[str, str]
) -> Drawing | None:
    """All tasks together: mean share of the baseline's improvement that is lost. None when nothing is known.

    Left: the narrowest operands against their overhead. Right: every width against the time of its GEMMs.
    ``numbers``: configuration -> the number that it is labelled with; named recipes are labelled with their names.
    """
    rows = configs[configs["task"] == ALL]
    narrow = panel.placed_rows(rows[rows["narrow"]], "overhead", "lost", 100.0)
    wide = panel.placed_rows(rows[comparable(configs).loc[rows.index]], "relative_time", "lost", 100.0, "front_time")
    if narrow.empty and wide[~wide["is_baseline"]].empty:
        return None
    with theme():
        figure = new_figure(4.7)
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        panel.draw_points(left, narrow, styles)
        left.set_title(f"{_bits(narrow)} operands: overhead")
        panel.label_zero_line(left, table.baseline)
        left.set(xlabel=_OVERHEAD, ylabel="improvement lost (%)   lower is better")
        panel.draw_points(right, wide, styles)
        right.set_title("every width: time")
        right.set(xlabel="modelled time of the GEMMs (BF16 = 1)")
        _legend(figure, narrow, styles)
        fix_layout(figure)
        panel.label_points(left, narrow, styles, _names(narrow) | numbers)
        panel.label_points(right, wide, styles, {c: r for c, r in _recipes(wide) if c not in set(narrow["config"])})
        return finished(figure)


def per_task(
    table: TidyTable, configs: pd.DataFrame, styles: dict[str, Style], numbers: dict[str, str]
) -> Drawing | None:
    """One panel per task: the narrowest operands, in the gap of the task's own metric; arguments as for ``overall``."""
    import pandas as pd

    panels = []
    for task in table.tasks:
        rows = configs[(configs["task"] == task) & configs["narrow"]]
        placed = panel.placed_rows(rows.assign(front=task_front(rows)), "overhead", "gap", 1.0)
        if len(placed):
            panels.append((task, placed))
    if not panels:
        return None
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    with theme():
        figure = new_figure(3.4 * lines + 0.2)
        grid = figure.subplots(lines, columns, squeeze=False).flatten()
        for axes in grid[len(panels) :]:
            axes.remove()
        for axes, (task, rows) in zip(grid, panels, strict=False):
            panel.draw_points(axes, rows, styles)
            panel.label_zero_line(axes, table.baseline)
            axes.set_title(title_lines(task, columns))
            axes.set(ylabel=f"gap in held-out {table.metric.get(task, 'metric')}")
        for axes in grid[len(panels) - columns : len(panels)]:
            axes.set(xlabel=_OVERHEAD)
        _legend(figure, pd.concat([rows for _, rows in panels]), styles)
        fix_layout(figure)
        for axes, (_, rows) in zip(grid, panels, strict=False):
            panel.label_points(axes, rows, styles, _names(rows) | numbers)
        return finished(figure)


def _names(rows: pd.DataFrame) -> dict[str, str]:
    """Of recipes without overrides; of more than a panel can hold, those on the front."""
    named = rows[rows["named"]]
    shown = named if len(named) <= _LABELED else named[named["front"]]
    return {config: config for config in shown["config"]}


def _recipes(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """(configuration, recipe): each recipe's configuration with the lowest loss of accuracy."""
    best = rows.sort_values("y").drop_duplicates("recipe")
    return list(zip(best["config"], best["recipe"], strict=True))


def _bits(rows: pd.DataFrame) -> str:
    return f"{rows['bits'].max()}-bit" if len(rows) else "narrow"


def _legend(figure: Figure, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    """Colors and markers of recipes, where not every point is labelled with its recipe."""
    if rows["named"].all():
        return
    from matplotlib.lines import Line2D

    recipes = list(dict.fromkeys(rows["recipe"]))[:16]
    handles = [Line2D([], [], ls="", marker=styles[r].marker, color=styles[r].color, label=r) for r in recipes]
    figure.legend(handles=handles, loc="outside upper left", ncols=8, handletextpad=0.2, columnspacing=1.4)
