"""The Pareto figure of one place: accuracy lost against the time of a step, with both intervals."""

from __future__ import annotations

from dse.report.analysis.deployment import ROBUSTLY, SOMETIMES, PlaceTimes, finite
from dse.report.figures.drawing import Drawing
from dse.report.figures.style import MUTED, Style, finished, new_figure, symlog, theme


def at_place(place: PlaceTimes, styles: dict[str, Style]) -> Drawing:
    """A point per configuration at the middle of its times; filled: robustly on the front, ringed: sometimes."""
    with theme():
        figure = new_figure(3.6)
        axes = figure.subplots()
        for one in place.configs:
            color, middle = styles[one.recipe].color, (one.low + one.high) / 2
            lost, half = 100 * one.lost, 100 * finite(one.half)
            axes.errorbar(
                middle, lost, half, (one.high - one.low) / 2, fmt="none", ecolor=color, elinewidth=1.2, alpha=0.7
            )
            face = color if one.front == ROBUSTLY else "white"
            shown = {"edgecolor": color, "facecolor": face, "linewidth": 1.4, "s": 52 if one.front else 18}
            axes.scatter([middle], [lost], marker=styles[one.recipe].marker, zorder=4, **shown)  # type: ignore[arg-type]
            if one.front in (ROBUSTLY, SOMETIMES):
                axes.annotate(one.config, (middle, lost), textcoords="offset points", xytext=(6, 5), fontsize=7)
        axes.axhline(0, color=MUTED, lw=1, zorder=1)
        axes.axvline(1, color=MUTED, lw=1, zorder=1)
        symlog(axes, [100 * (one.lost + finite(one.half)) for one in place.configs])
        axes.set(xlabel="time of a training step (BF16 = 1)", ylabel="improvement lost (%)   lower is better")
        axes.set_title(place.title)
        return finished(figure)


__all__ = ["at_place"]
