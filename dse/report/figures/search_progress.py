"""A search in the order of asking: gap and overhead of every configuration, and the best gap so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dse.report.analysis.searches import AskedConfiguration, SearchHistory
from dse.report.analysis.tidy import TidyTable
from dse.report.figures.drawing import Drawing
from dse.report.figures.point_marks import points_id
from dse.report.figures.style import INK, MUTED, Looks, finished, new_figure, symlog, theme, title_lines
from dse.results.record import DIVERGED, OK, STOPPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MANY = 300
"""Number of configurations from which on points are small."""


def search_progress(table: TidyTable, searches: Sequence[SearchHistory], looks: Looks) -> Drawing | None:
    """A row per task: the gap with its best so far, and the overhead. None when nothing is known.

    Points are the configurations that ``looks`` knows; the best so far is that of all.
    """
    shown = [search for search in searches if any(math.isfinite(config.gap) for config in search.configurations)]
    if not shown:
        return None
    with theme():
        figure = new_figure(2.9 * len(shown) + 0.5)
        grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(3, 2))
        for (left, right), search in zip(grid, shown, strict=True):
            _gaps(left, search, looks)
            left.set_title(title_lines(f"{search.task}: gap, best so far", 2))
            left.set_ylabel(
                f"gap in held-out {table.metric.get(search.configurations[0].assignment['task'], 'metric')}"
            )
            _points(right, search, looks, "overhead")
            right.set_title(title_lines(f"{search.task}: overhead", 3))
            right.set_ylabel("% over three bare FP4 GEMMs")
            for axes in (left, right):
                axes.set_xlim(0, len(search.configurations) + 1)
                if 0 < search.startup < len(search.configurations):
                    axes.axvline(search.startup + 0.5, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
        for axes in grid[-1]:
            axes.set_xlabel("configuration, in the order of asking")
        _legend(figure, shown, looks)
        return finished(figure)


def _gaps(axes: Axes, search: SearchHistory, looks: Looks) -> None:
    _points(axes, search, looks, "gap")
    axes.axhline(0, color=MUTED, lw=1, zorder=1)
    best = search.best_so_far
    axes.step(range(1, len(best) + 1), best, where="post", color=INK, lw=1.4, zorder=5)
    symlog(axes, [config.gap for config in search.configurations])


def _points(axes: Axes, search: SearchHistory, looks: Looks, what: str) -> None:
    size = 10 if len(search.configurations) > _MANY else 26
    groups: dict[tuple[str, str, bool], list[AskedConfiguration]] = {}
    for config in search.configurations:
        if config.config in looks and math.isfinite(getattr(config, what)):
            marker = looks[config.config][0].marker
            groups.setdefault((marker, config.state, config.front), []).append(config)
    for (marker, state, front), choices in groups.items():
        at = [config.number for config in choices], [getattr(config, what) for config in choices]
        colors = [looks[config.config][0].color for config in choices]
        shape: dict[str, Any] = {"s": size, "marker": marker, "facecolor": "white", "edgecolor": colors, "lw": 1}
        if state == OK:
            shape |= {"facecolor": colors, "edgecolor": INK if front else "none", "lw": 1.3, "zorder": 4}
            shape["s"] = 2 * size if front else size
        elif state == DIVERGED:
            shape = {"s": size, "marker": "x", "color": colors, "lw": 1.1, "alpha": 0.8}
        marks = axes.scatter(*at, **{"zorder": 3, **shape})  # open: stopped, failed, to run
        marks.set_gid(points_id(looks[config.config][1] for config in choices))


def _legend(figure: Figure, shown: Sequence[SearchHistory], looks: Looks) -> None:
    from matplotlib.lines import Line2D

    asked = [config for search in shown for config in search.configurations if config.config in looks]
    styles = {config.recipe: looks[config.config][0] for config in reversed(asked)}
    recipes = list(dict.fromkeys(config.recipe for config in asked))[:12]
    handles = [Line2D([], [], ls="", marker=styles[r].marker, color=styles[r].color, label=r) for r in recipes]
    handles.append(Line2D([], [], color=INK, lw=1.4, label="best so far"))
    handles.append(Line2D([], [], ls="", marker="o", mfc="white", mec=INK, mew=1.3, label="on the front"))
    if any(config.state == DIVERGED for search in shown for config in search.configurations):
        handles.append(Line2D([], [], ls="", marker="x", color=MUTED, label="a seed diverged"))
    if any(config.state == STOPPED for search in shown for config in search.configurations):
        handles.append(Line2D([], [], ls="", marker="o", mfc="white", mec=MUTED, label="a seed was stopped"))
    figure.legend(handles=handles, loc="outside upper left", ncols=8, handletextpad=0.3, columnspacing=1.4)
