"""The Pareto figures of one place: accuracy lost against the time of a step, with both intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dse.report.analysis.configs import ALL, pareto_front
from dse.report.analysis.deployment import BOTH_ENDS, PlaceTimes, TaskTimes, TimedConfig, finite
from dse.report.figures.drawing import Drawing
from dse.report.figures.label_layout import PointLabel, place_labels
from dse.report.figures.point_marks import points_id
from dse.report.figures.style import INK, MUTED, Looks, finished, fix_layout, new_figure, symlog, theme, title_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TIME = "time of a training step (BF16 = 1), from fused kernels to separate ones"
_LOST = "improvement lost (%)"
_MANY = 40
"""Points; where there are more, only the front has bars, and named recipes if they are no more."""
_LABELED = 16
"""Named recipes; of more, only those on the front have labels."""


def at_place(place: PlaceTimes, looks: Looks) -> Drawing | None:
    """Over all tasks: a point per configuration at the middle of its times. None where nothing is known over all.

    Filled: on the front at both ends of the times; open: at one; small: at neither.
    Lines: the front where kernels are fused (dotted) and
    where they are separate.
    """
    if place.overall is None:
        return None
    with theme():
        figure = new_figure(4.7)
        axes = figure.subplots()
        _panel(axes, place.overall, looks)
        axes.set(xlabel=_TIME, ylabel=f"{_LOST}   lower is better", title=place.title)
        fix_layout(figure)
        _labels(axes, place.overall, looks)
        return finished(figure)


def tasks_at_place(place: PlaceTimes, looks: Looks) -> Drawing | None:
    """A panel per task; None where there is one task."""
    if not place.tasks:
        return None
    columns = min(2, len(place.tasks))
    lines = math.ceil(len(place.tasks) / columns)
    with theme():
        figure = new_figure(3.4 * lines + 0.2)
        grid = figure.subplots(lines, columns, squeeze=False).flatten()
        for axes in grid[len(place.tasks) :]:
            axes.remove()
        for axes, times in zip(grid, place.tasks, strict=False):
            _panel(axes, times, looks)
            axes.set(ylabel=_LOST, title=title_lines(times.task, columns))
        for axes in grid[len(place.tasks) - columns : len(place.tasks)]:
            axes.set(xlabel="time of a training step (BF16 = 1)")
        fix_layout(figure)
        for axes, times in zip(grid, place.tasks, strict=False):
            _labels(axes, times, looks)
        return finished(figure)


def _panel(axes: Axes, times: TaskTimes, looks: Looks) -> None:
    """Everything but the labels; sets the axes' final limits."""
    _points(axes, times, looks)
    axes.axhline(0, color=MUTED, lw=1, zorder=1)
    axes.axvline(1, color=MUTED, lw=1, zorder=1)
    symlog(axes, [100 * (one.lost + finite(one.half)) for one in times.configs])
    axes.margins(x=0.06, y=0.1)
    axes.autoscale_view()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    for end, style in (("low", ":"), ("high", "-")):
        _line(axes, times, end, style)


def _points(axes: Axes, times: TaskTimes, looks: Looks) -> None:
    many, named = len(times.configs) > _MANY, sum(one.named for one in times.configs)
    barred: dict[str, list[TimedConfig]] = {}
    for one in times.configs:
        if one.front or (one.named and named <= _MANY) or not many:
            barred.setdefault(looks[one.config][0].color, []).append(one)
    for color, own in barred.items():
        at = [_middle(one) for one in own], [100 * one.lost for one in own]
        halves = [100 * finite(one.half) for one in own], [(one.high - one.low) / 2 for one in own]
        axes.errorbar(*at, *halves, fmt="none", ecolor=color, elinewidth=1.2, alpha=0.7)
    groups: dict[tuple[str, str], list[TimedConfig]] = {}
    for one in times.configs:
        groups.setdefault((looks[one.config][0].marker, one.front), []).append(one)
    for (marker, front), own in groups.items():
        colors = [looks[one.config][0].color for one in own]
        face = colors if front in (BOTH_ENDS, "") else "white"
        shape: dict[str, Any] = {"marker": marker, "s": 52 if front else 18, "edgecolor": colors, "facecolor": face}
        shape |= {"linewidth": 1.4 if front else 0, "zorder": 5 if front else 4}
        marks = axes.scatter([_middle(one) for one in own], [100 * one.lost for one in own], **shape)
        marks.set_gid(points_id(looks[one.config][1] for one in own))


def _line(axes: Axes, times: TaskTimes, end: str, style: str) -> None:
    """The front at one end of the interval."""
    ends, losses = [getattr(one, end) for one in times.configs], [100 * one.lost for one in times.configs]
    members = sorted((x, y) for x, y, on in zip(ends, losses, pareto_front(ends, losses), strict=True) if on)
    xs, ys = [*(x for x, _ in members), axes.get_xlim()[1]], [*(y for _, y in members), members[-1][1]]
    axes.step(xs, ys, style, where="post", color=INK, lw=1.1, alpha=0.55, zorder=2)


def _labels(axes: Axes, times: TaskTimes, looks: Looks) -> None:
    """Names of recipes without overrides, over all tasks also numbers of others on the front; bold: at both ends."""
    few = times.task == ALL and sum(one.named for one in times.configs) <= _LABELED
    shown = [one for one in times.configs if one.front or (one.named and few)]
    labels = [
        PointLabel(
            one.number or one.config, _middle(one), 100 * one.lost, looks[one.config][0].color, one.front == BOTH_ENDS
        )
        for one in shown[:_MANY]
    ]
    bars = [(x, 100 * one.lost) for one in shown for x in (one.low, one.high)]
    place_labels(axes, labels, [*((_middle(one), 100 * one.lost) for one in times.configs), *bars][:600])


def _middle(one: TimedConfig) -> float:
    return (one.low + one.high) / 2


__all__ = ["at_place", "tasks_at_place"]
