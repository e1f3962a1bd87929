"""A search in the order of asking: gap and overhead of every configuration, and the best gap so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.report.analysis.searches import AskedConfiguration, SearchHistory
from dse.report.analysis.tidy import TidyTable
from dse.report.figures.drawing import Drawing
from dse.report.figures.style import INK, MUTED, Style, finished, new_figure, symlog, theme
from dse.results.record import DIVERGED, OK, STOPPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MANY = 300
"""Number of configurations from which on points are small."""


def search_progress(table: TidyTable, searches: Sequence[SearchHistory], styles: dict[str, Style]) -> Drawing | None:
    """A row per task: the gap with its best so far, and the overhead. None when nothing is known."""
    shown = [search for search in searches if any(math.isfinite(config.gap) for config in search.configurations)]
    if not shown:
        return None
    with theme():
        figure = new_figure(2.9 * len(shown) + 0.5)
        grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(3, 2))
        for (left, right), search in zip(grid, shown, strict=True):
            _gaps(left, search, styles)
            left.set_title(f"{search.task}: gap, best so far")
            left.set_ylabel(
                f"gap in held-out {table.metric.get(search.configurations[0].assignment['task'], 'metric')}"
            )
            _points(right, search, styles, "overhead")
            right.set_title(f"{search.task}: overhead")
            right.set_ylabel("% over three bare FP4 GEMMs")
            for axes in (left, right):
                axes.set_xlim(0, len(search.configurations) + 1)
                if 0 < search.startup < len(search.configurations):
                    axes.axvline(search.startup + 0.5, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
        for axes in grid[-1]:
            axes.set_xlabel("configuration, in the order of asking")
        _legend(figure, shown, styles)
        return finished(figure)


def _gaps(axes: Axes, search: SearchHistory, styles: dict[str, Style]) -> None:
    _points(axes, search, styles, "gap")
    axes.axhline(0, color=MUTED, lw=1, zorder=1)
    best = search.best_so_far
    axes.step(range(1, len(best) + 1), best, where="post", color=INK, lw=1.4, zorder=5)
    symlog(axes, [config.gap for config in search.configurations])


def _points(axes: Axes, search: SearchHistory, styles: dict[str, Style], what: str) -> None:
    size = 10 if len(search.configurations) > _MANY else 26
    groups: dict[tuple[str, str], list[AskedConfiguration]] = {}
    for config in search.configurations:
        if math.isfinite(getattr(config, what)):
            groups.setdefault((config.recipe, config.state), []).append(config)
    for (recipe, state), choices in groups.items():
        style = styles[recipe]
        at = [config.number for config in choices], [getattr(config, what) for config in choices]
        if state == OK:
            edges = [INK if config.front else "none" for config in choices]
            sizes = [2 * size if config.front else size for config in choices]
            axes.scatter(*at, s=sizes, marker=style.marker, color=style.color, edgecolors=edges, lw=1.3, zorder=4)
        elif state != DIVERGED:  # stopped, failed, to run
            axes.scatter(*at, s=size, marker=style.marker, facecolor="white", edgecolor=style.color, lw=1, zorder=3)
        else:
            axes.scatter(*at, s=size, marker="x", color=style.color, lw=1.1, alpha=0.8, zorder=3)


def _legend(figure: Figure, shown: Sequence[SearchHistory], styles: dict[str, Style]) -> None:
    from matplotlib.lines import Line2D

    recipes = list(dict.fromkeys(config.recipe for search in shown for config in search.configurations))[:12]
    handles = [Line2D([], [], ls="", marker=styles[r].marker, color=styles[r].color, label=r) for r in recipes]
    handles.append(Line2D([], [], color=INK, lw=1.4, label="best so far"))
    handles.append(Line2D([], [], ls="", marker="o", mfc="white", mec=INK, mew=1.3, label="on the front"))
    if any(config.state == DIVERGED for search in shown for config in search.configurations):
        handles.append(Line2D([], [], ls="", marker="x", color=MUTED, label="a seed diverged"))
    if any(config.state == STOPPED for search in shown for config in search.configurations):
        handles.append(Line2D([], [], ls="", marker="o", mfc="white", mec=MUTED, label="a seed was stopped"))
    figure.legend(handles=handles, loc="outside upper left", ncols=8, handletextpad=0.3, columnspacing=1.4)
