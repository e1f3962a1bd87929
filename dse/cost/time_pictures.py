"""Pictures of the time model: where a step's time goes, and predictions against measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.cost.check import UNITS, Compared
from dse.cost.roofline import STEP_PARTS, Interval
from dse.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = (".svg", ".png", ".pdf")


def stacked_bars(found: Mapping[str, Interval], path: Path, title: str) -> None:
    """A bar for BF16 and two for every recipe (optimistic, as measured), divided by what the time goes to.

    Raises UserError for a file that is no picture's, or cannot be written.
    """
    figure, axes = _new(1.2 + 0.45 * (1 + 2 * len(found)))
    first = next(iter(found.values()))
    rows = {"bf16": first.high_base.parts}
    for name, interval in found.items():
        rows |= {f"{name}, optimistic": interval.low.parts, f"{name}, as measured": interval.high.parts}
    left = [0.0] * len(rows)
    for part in STEP_PARTS:
        widths = [1e3 * parts[part] for parts in rows.values()]
        if any(widths):
            axes.barh(list(rows), widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="time of a step (ms)", title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    _save(figure, path)


def scatter(rows: Sequence[Compared], path: Path) -> None:
    """A panel for each unit: predicted against measured, on logarithmic axes, with lines at 20 % off."""
    kinds = list(dict.fromkeys(row.point.kind for row in rows))
    figure, panels = _new(3.4, len(kinds))
    for kind, axes in zip(kinds, panels if len(kinds) > 1 else [panels], strict=True):
        for fit, marker, label in ((False, "o", "held out"), (True, "x", "fitted to")):
            own = [row for row in rows if row.point.kind == kind and row.point.fit == fit]
            axes.scatter(
                [row.point.value for row in own], [row.predicted for row in own], marker=marker, s=22, label=label
            )
        values = [value for row in rows if row.point.kind == kind for value in (row.point.value, row.predicted)]
        ends = [min(values) / 1.3, max(values) * 1.3]
        for factor, style in ((0.8, ":"), (1.0, "-"), (1.2, ":")):
            axes.plot(ends, [factor * end for end in ends], style, color="grey", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel=f"measured ({UNITS[kind]})", title=kind)
    figure.axes[0].set_ylabel("predicted")
    figure.axes[0].legend(frameon=False)
    _save(figure, path)


def _new(height: float, panels: int = 1) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * panels if panels > 1 else 9, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels)


def _save(figure: Figure, path: Path) -> None:
    import matplotlib as mpl

    if path.suffix not in _KINDS:
        raise UserError(f"{path}: a picture's name ends in {', '.join(_KINDS)}")
    metadata = {"Date": None} if path.suffix == ".svg" else None
    try:
        with mpl.rc_context({"svg.hashsalt": "dse"}):
            figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


__all__ = ["scatter", "stacked_bars"]
