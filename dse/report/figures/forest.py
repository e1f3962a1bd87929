"""The forest plot: paired differences with their intervals, one line per option value."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.number_format import SPACE, interval, p_value
from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import BASELINE, OPTION, VERSUS, Effect
from dse.report.figures.drawing import Drawing
from dse.report.figures.point_marks import MarkTitles
from dse.report.figures.style import INK, MARKERS, MUTED, finished, new_figure, symlog, theme
from dse.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 40


def forest(found: Sequence[Effect], tasks: list[str]) -> Drawing | None:
    """All-task effects of options and of recipes against the baseline (at most MOST), single tasks as small marks."""
    kept = [e for e in found if not e.recipe and e.kind != VERSUS and math.isfinite(e.lost.mean)]
    main = [e for e in kept if e.scope == ALL]
    recipes = sorted((e for e in main if e.kind == BASELINE), key=lambda e: e.lost.mean)
    main = ([e for e in main if e.kind == OPTION] + recipes)[:MOST]
    if not main:
        return None
    groups = list(dict.fromkeys((e.kind, e.axis, e.reference) for e in main))
    panels = [[g for g in groups if (g[0] == BASELINE) == last] for last in (False, True)]
    panels = [panel for panel in panels if panel]
    lines = [sum(_group(e) in panel for e in main) + 1.3 * len(panel) + 1.2 for panel in panels]
    titles = MarkTitles()
    with theme():
        figure = new_figure(0.32 * sum(lines) + 0.8)
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=lines)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _panel(axes, panel, main, kept, tasks, titles)
        grid[-1].set_xlabel(
            "paired difference of the improvement lost, percentage points    (← loses less · loses more →)"
        )
        _legend(figure, tasks)
        return finished(figure, titles.texts)


_EffectGroup = tuple[str, str, str]


def _group(e: Effect) -> _EffectGroup:
    return e.kind, e.axis, e.reference


def _panel(
    axes: Axes,
    groups: list[_EffectGroup],
    main: list[Effect],
    kept: list[Effect],
    tasks: list[str],
    titles: MarkTitles,
) -> None:
    """Options and recipes have panels of their own: their effects differ in size."""
    ticks: list[tuple[float, str, bool]] = []
    mine = [e for e in main if _group(e) in groups]
    y = 0.0
    for group in groups:
        y -= 1.15
        ticks.append((y, _heading(*group), True))
        for effect in (e for e in mine if _group(e) == group):
            y -= 1
            ticks.append((y, textwrap.shorten(effect.value, 44, placeholder="…"), False))
            same = [e for e in kept if e.scope != ALL and (_group(e), e.value) == (group, effect.value)]
            _line(axes, y, effect, same, tasks, titles)
    _frame(axes, ticks, y, [_end(e) * 100 for e in mine])


def _heading(kind: str, axis: str, reference: str) -> str:
    return f"{axis}, instead of {reference}" if kind == OPTION else f"recipe, instead of the baseline {reference}"


def _end(e: Effect) -> float:
    return abs(e.lost.mean) + (e.lost.half if math.isfinite(e.lost.half) else 0.0)


def _line(axes: Axes, y: float, effect: Effect, per_task: list[Effect], tasks: list[str], titles: MarkTitles) -> None:
    for e in per_task:
        i = tasks.index(e.scope) if e.scope in tasks else len(tasks)
        axes.plot(
            e.lost.mean * 100, y + 0.24, MARKERS[i % len(MARKERS)], ms=4.2, mfc="white", mec=MUTED, mew=0.9, zorder=3,
            gid=titles.id(_said(e)),
        )  # fmt: skip
    sure = effect.p_holm < 0.05
    color = INK if not sure else "#0072b2" if effect.lost.mean < 0 else "#b5460f"
    if math.isfinite(effect.lost.half):
        axes.plot(
            [effect.lost.low * 100, effect.lost.high * 100],
            [y, y],
            color=color,
            lw=1.8,
            solid_capstyle="butt",
            zorder=4,
            gid=titles.id(_said(effect)),
        )
    axes.plot(
        effect.lost.mean * 100, y, "D", ms=6.5, mfc=color if sure else "white", mec=color, mew=1.4, zorder=5,
        gid=titles.id(_said(effect)),
    )  # fmt: skip


def _said(e: Effect) -> str:
    """What a mark tells: the option or recipe, its difference with the interval, and how many trials are behind it."""
    name = f"{e.axis} = {e.value}, instead of {e.reference}" if e.kind == OPTION else f"{e.value} against {e.reference}"
    by = interval(e.lost.mean, e.lost.half, scale=100, limit=2, sign=True)
    pairs = f"{plural(e.lost.n, 'seed')}, {plural(e.pairs, 'pair')} of trials: {e.better} better, {e.worse} worse"
    p = f"; Holm{SPACE}{p_value(e.p_holm)}" if math.isfinite(e.p_holm) else ""
    return f"{name}\n{by} points of the improvement lost, {e.scope}\n{pairs}{p}"


def _frame(axes: Axes, ticks: list[tuple[float, str, bool]], bottom: float, ends: list[float]) -> None:
    axes.axvline(0, color=INK, lw=1, zorder=2)
    axes.plot([0], [ticks[0][0]], lw=0)  # zero, with a margin
    axes.set_yticks([t[0] for t in ticks], [t[1] for t in ticks])
    for label, (_, _, heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if heading else "normal")
    axes.set_ylim(bottom - 0.8, -0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    symlog(axes, ends, axis="x")


def _legend(figure: Figure, tasks: list[str]) -> None:
    from matplotlib.lines import Line2D

    def mark(marker: str, size: float, face: str, edge: str, label: str) -> Line2D:
        return Line2D([], [], ls="", marker=marker, ms=size, mfc=face, mec=edge, label=label)

    handles = [
        mark("D", 6.5, INK, INK, "all tasks, Holm p < 0.05"),
        mark("D", 6.5, "white", INK, "all tasks, not separated"),
    ]
    if len(tasks) > 1:
        handles += [mark(MARKERS[i % len(MARKERS)], 4.2, "white", MUTED, task) for i, task in enumerate(tasks[:8])]
    figure.legend(handles=handles, loc="outside upper left", ncols=8, handletextpad=0.2, columnspacing=1.4)
