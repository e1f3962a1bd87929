"""Probe figures: small multiples of every quantity over the steps, and one trial's layers as heat maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dse.number_format import number
from dse.report.figures.drawing import Drawing
from dse.report.figures.point_marks import MarkTitles
from dse.report.figures.style import INK, MUTED, Style, finished, new_figure, theme
from dse.report.probe_summary.probe_frame import MEASURES, Measure, pivot_layers, worst_layer
from dse.report.probe_summary.probed_task import ProbedTask, ProbedTrial
from dse.report.probe_summary.selection import BASELINE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_LAYERS = 24
"""Layers in a heat map; where there are more, those that were worst."""
_SMALLEST = -127
"""E8M0's lowest code, which blocks of zeros have."""
_RARE = 1.0
"""Percent of the blocks that a scale code needs at some measurement to be shown."""
_MAP = "YlOrRd"
_ERRORS = (("wgrad", "error"), ("dgrad.lhs", "error"))


def small_multiples(probed: ProbedTask, styles: dict[str, Style]) -> Drawing | None:
    """A panel per quantity: each trial's median layer, and the layer that is worst at its last measurement."""
    shown = [m for m in MEASURES if any(len(pivot_layers(one.series, m)) > 1 for one in probed.trials)]
    if not shown:
        return None
    rows = math.ceil((len(shown) + 1) / _COLUMNS)  # the last panel holds the legend
    with theme():
        figure = new_figure(2.15 * rows + 0.2)
        titles = MarkTitles()
        places = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
        for axes, measure in zip(places, shown, strict=False):
            _panel(axes, probed, measure, styles, titles)
        for axes in places[len(shown) :]:
            axes.set_axis_off()
        for axes in places[max(0, len(shown) - _COLUMNS) : len(shown)]:
            axes.set_xlabel("step")
        _legend(places[len(shown)], probed, styles)
        return finished(figure, titles.texts)


def layer_heatmaps(probed: ProbedTask) -> Drawing | None:
    """The focus trial's layers over the steps: errors of dW and of G, and the scale codes of G in its worst layer."""
    focus = probed.focus
    maps = [(m, v) for m in MEASURES if (m.point, m.quantity) in _ERRORS and len(v := pivot_layers(focus.series, m))]
    maps.sort(key=lambda pair: _ERRORS.index((pair[0].point, pair[0].quantity)))
    if not maps:
        return None
    codes = _codes(focus)
    height = 1.2 + 0.19 * min(_LAYERS, max(values.shape[1] for _, values in maps))
    with theme():
        figure = new_figure(max(2.7, height))
        panels = list(figure.subplots(1, len(maps) + bool(codes), squeeze=False).flat)
        for axes, (measure, values) in zip(panels, maps, strict=False):
            _heat(figure, axes, _worst(values, measure), measure.title)
        first, *others = [[text.get_text() for text in axes.get_yticklabels()] for axes in panels[: len(maps)]]
        for axes in panels[1 : len(maps)]:
            if others[0] == first:
                axes.set_yticklabels([])
        if codes:
            _histogram(figure, panels[-1], *codes)
        for axes in panels:
            axes.set_xlabel("step")
            if focus.diverged_at is not None:
                axes.axvline(focus.diverged_at, color=INK, lw=1, ls=":")
        return finished(figure)


def _panel(axes: Axes, probed: ProbedTask, measure: Measure, styles: dict[str, Style], titles: MarkTitles) -> None:
    scale = 100.0 if measure.share else 1.0
    axes.set_title(measure.title, fontsize=9.3)
    focus = ""
    for order, trial in enumerate(reversed(probed.trials)):  # the focus trial above the others
        values = pivot_layers(trial.series, measure) * scale
        if values.empty or (trial.role == BASELINE and measure.quantity == "changed"):  # codes of 16 bits all do
            continue
        style, dash = styles[trial.recipe], _dash(probed, trial)
        middle = values.median(axis=1)
        said = f"{trial.config}, {trial.role}, seed {trial.seed}\n{measure.title}"
        text = _last(f"{said}: the median layer", middle)
        axes.plot(middle.index, middle, color=style.color, lw=1.7, ls=dash, zorder=3 + order, gid=titles.id(text))
        worst = worst_layer(values / scale, measure)
        if worst is not None and trial.role != BASELINE:
            own = values[worst].dropna()
            text = _last(f"{said}: {worst}, the worst layer", own)
            axes.plot(own.index, own, color=style.color, lw=0.9, ls=":", zorder=3 + order, gid=titles.id(text))
            if trial is probed.focus:
                focus = worst
        if trial.diverged_at is not None:
            end = values[worst].dropna() if worst is not None else middle
            for line in (middle, end):
                text = f"{said}\ndiverged at step {trial.diverged_at:,}"
                last = line.index[-1], line.iloc[-1]
                axes.plot(*last, "X", color=style.color, ms=6.5, mec="white", zorder=9, gid=titles.id(text))
    axes.margins(x=0.02, y=0.08)
    low, high = axes.get_ylim()
    if measure.ideal == 1.0:
        axes.axhline(1, color=MUTED, lw=0.8, zorder=1)
    elif low <= 0 <= high:
        axes.axhline(0, color=MUTED, lw=0.8, zorder=1)
    if focus:
        axes.text(
            0.98, 0.97, focus, transform=axes.transAxes, ha="right", va="top", fontsize=7.8, zorder=10,
            color=styles[probed.focus.recipe].color, bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1},
        )  # fmt: skip
        axes.set_ylim(low, high + 0.14 * (high - low))


def _last(name: str, values: pd.Series[float]) -> str:
    return f"{name}\n{number(values.iloc[-1])} at step {int(values.index[-1]):,}"


def _legend(axes: Axes, probed: ProbedTask, styles: dict[str, Style]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    for trial in probed.trials:
        marker: Any = {"marker": "X", "ms": 7, "mec": "white"} if trial.diverged_at is not None else {}
        label = f"{_short(trial.config)}: {trial.role}, seed {trial.seed}"
        style: Any = {"color": styles[trial.recipe].color, "lw": 2.2, "ls": _dash(probed, trial)}
        handles.append(Line2D([], [], label=label, **style, **marker))
    handles.append(Line2D([], [], color=MUTED, lw=1.7, label="solid: the median layer"))
    handles.append(Line2D([], [], color=MUTED, lw=0.9, ls=":", label="dotted: the worst layer"))
    axes.legend(handles=handles, loc="center left", fontsize=8.4, handlelength=1.6, borderaxespad=0)


def _heat(figure: Figure, axes: Axes, values: pd.DataFrame, title: str) -> None:
    """``values``: a row per step, a column per layer."""
    axes.set_title(title, fontsize=9.3)
    mesh = axes.pcolormesh(_edges(list(values.index)), range(values.shape[1] + 1), values.T, cmap=_MAP)
    axes.set_yticks([i + 0.5 for i in range(values.shape[1])], list(values.columns), fontsize=7.8)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.colorbar(mesh, ax=axes, pad=0.02, aspect=28).outline.set_visible(False)


def _histogram(figure: Figure, axes: Axes, layer: str, series: dict[int, dict[int, float]], odd: float) -> None:
    """Per step the share of blocks by log2 of their scale, in percent; ``odd``: the largest share that is left out."""
    import numpy as np

    steps = sorted(series)
    seen = [power for one in series.values() for power in one]
    powers = range(min(seen), max(seen) + 1)
    shares = np.array([[series[step].get(power, math.nan) for step in steps] for power in powers])
    axes.set_title(f"scales of G in {layer}", fontsize=9.3)
    mesh = axes.pcolormesh(_edges(steps), [p - 0.5 for p in (*powers, powers[-1] + 1)], shares, cmap="Blues", vmin=0)
    axes.set_ylabel("log2 of the block scale")
    axes.grid(visible=False)
    figure.colorbar(mesh, ax=axes, pad=0.02, aspect=28, label="% of blocks").outline.set_visible(False)
    if odd >= 0.5:
        text = f"not shown: up to {odd:.0f} % of blocks (rare codes, zeros)"
        axes.text(0.02, 0.02, text, transform=axes.transAxes, fontsize=7.8, color=MUTED)


def _codes(focus: ProbedTrial) -> tuple[str, dict[int, dict[int, float]], float] | None:
    """The layer whose G has the largest final error; its scales in percent by step and power of two."""
    measure = next(m for m in MEASURES if (m.point, m.quantity) == ("dgrad.lhs", "error"))
    layer = worst_layer(pivot_layers(focus.series, measure), measure)
    found: dict[int, dict[int, float]] = {}
    odd = 0.0
    for (step, name, point), counts in focus.histograms.items():
        if name == layer and point == measure.point and counts:
            total = sum(counts.values())
            powers = {int(k): 100 * n / total for k, n in counts.items() if k.lstrip("-").isdigit()}
            powers = {power: share for power, share in powers.items() if power > _SMALLEST}
            if powers:
                found[step] = powers
            odd = max(odd, 100 - sum(powers.values()))
    common = {power for powers in found.values() for power, share in powers.items() if share >= _RARE}
    found = {step: {p: share for p, share in powers.items() if p in common} for step, powers in found.items()}
    odd = max([odd, *(100 - sum(powers.values()) for powers in found.values())])
    return (layer, found, odd) if layer and common else None


def _worst(values: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """At most _LAYERS layers, the worst ones, in the order of the model."""
    if values.shape[1] <= _LAYERS:
        return values
    kept = set((values - measure.ideal).abs().max().nlargest(_LAYERS).index)
    return values[[name for name in values if name in kept]]


def _edges(steps: list[int]) -> list[float]:
    """Cell borders along the steps: each measurement extends to the next one."""
    width = steps[-1] - steps[-2] if len(steps) > 1 else 1
    return [*steps, steps[-1] + width]


def _dash(probed: ProbedTask, trial: ProbedTrial) -> Any:
    """Configurations of one recipe share a color: later ones are dashed."""
    same = [one for one in probed.trials if one.recipe == trial.recipe]
    return "-" if same[0] is trial else (0, (4, 1.5))


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:33]}…"
