"""One panel of the Pareto figures: points with their intervals, the front's step line, labels."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

from dse.report.analysis.tidy import row_dicts
from dse.report.figures.label_layout import PointLabel, place_labels
from dse.report.figures.point_marks import points_id
from dse.report.figures.style import INK, MUTED, Style, symlog

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_LABELS = 40
_MANY = 40
"""Points; where there are more, only the front and named recipes have bars."""


def placed_rows(rows: pd.DataFrame, x: str, y: str, scale: float, front: str = "front") -> pd.DataFrame:
    """The rows with known coordinates, with columns x, y, half (of the interval) and front; y in units of 1 / scale."""
    placed = rows.assign(x=rows[x], y=rows[f"{y}_mean"] * scale, half=rows[f"{y}_half"] * scale, front=rows[front])
    return placed[placed["x"].notna() & placed["y"].notna()]


def draw_points(axes: Axes, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    """Everything but the labels; sets the axes' final limits. With a diverged or stopped seed the marker is open."""
    many = len(rows) > _MANY
    rows = rows.assign(
        color=[styles[recipe].color for recipe in rows["recipe"]],
        marker=[styles[recipe].marker for recipe in rows["recipe"]],
        open=(rows["diverged"] > 0) | (rows["stopped"] > 0),
    )
    for color, group in _barred(rows).groupby("color", sort=False):
        bar: dict[str, Any] = {"fmt": "none", "elinewidth": 1.2, "capsize": 2.5, "alpha": 0.75}
        axes.errorbar(group["x"], group["y"], group["half"], ecolor=str(color), **bar)
    for (marker, hollow), group in rows.groupby(["marker", "open"], sort=False):
        colors = list(group["color"])
        shape: dict[str, Any] = {"marker": marker, "s": 22 if many else 46, "alpha": 0.35 if many else 1.0, "zorder": 4}
        shape |= {"fc": "white", "ec": colors, "lw": 1.4} if bool(hollow) else {"color": colors, "lw": 0}
        axes.scatter(group["x"], group["y"], **shape).set_gid(points_id(group["number"]))
    axes.axhline(0, color=MUTED, lw=1, zorder=1)
    symlog(axes, [*rows["y"], *(rows["y"] + rows["half"])])
    axes.margins(x=0.09 if rows["x"].nunique() > 1 else 0.5, y=0.1)
    axes.autoscale_view()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    axes.set(xlabel="", ylabel="")
    members = rows[rows["front"]].sort_values("x")
    for marker, group in members.groupby("marker", sort=False) if many else []:
        large: dict[str, Any] = {"s": 50, "c": list(group["color"]), "marker": marker, "ec": "white", "lw": 0.8}
        axes.scatter(group["x"], group["y"], zorder=5, **large).set_gid(points_id(group["number"]))
    if len(members):
        xs, ys = [*members["x"], axes.get_xlim()[1]], [*members["y"], members["y"].iloc[-1]]
        axes.step(xs, ys, where="post", color=INK, lw=1.1, alpha=0.55, zorder=2)


def label_points(axes: Axes, rows: pd.DataFrame, styles: dict[str, Style], names: dict[str, str]) -> None:
    """Writes ``names`` (configuration -> text) beside their points, bold on the front, once the layout is final."""
    labels = [
        PointLabel(
            shorten(names[r["config"]], 32, placeholder="…"), r["x"], r["y"], styles[r["recipe"]].color, r["front"]
        )
        for r in row_dicts(rows[rows["config"].isin(set(names))])
    ]
    place_labels(axes, labels[:_MOST_LABELS], _obstacles(axes, rows))


def label_zero_line(axes: Axes, text: str) -> None:
    """Writes the name of the zero line beside the panel; to be called before the layout is fixed."""
    axes.annotate(
        text, (1, 0), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        fontsize=8.5, color=MUTED, va="center", annotation_clip=False,
    )  # fmt: skip


def _barred(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows[rows["named"] | rows["front"]] if len(rows) > _MANY else rows
    return shown[shown["half"] > 0]


def _obstacles(axes: Axes, rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Points that labels should not cover: the configurations, their bars, and the front's line."""
    found = [(x, y) for x, y in zip(rows["x"], rows["y"], strict=True)][:300]
    shown = _barred(rows)
    for x, y, half in zip(shown["x"], shown["y"], shown["half"], strict=True):
        found += [(x, y + s * half) for s in (-1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1)]
    members = rows[rows["front"]].sort_values("x")
    left, right = axes.get_xlim()
    for x, y, end in zip(members["x"], members["y"], [*members["x"].iloc[1:], right], strict=False):
        count = 1 + int(80 * (end - x) / (right - left))
        found += [(x + (end - x) * i / count, y) for i in range(1, count + 1)]
    return found
