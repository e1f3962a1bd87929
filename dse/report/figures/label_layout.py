"""Layout of point labels: placed so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dse.report.analysis.rank_correlation import FloatArray

_GAP = 7.0  # points between marker and text
_DIRECTIONS = [(1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1)]
_RINGS = (1.0, 2.2, 3.6, 5.2, 7.0)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PointLabel:
    """Text for the point (x, y) in data coordinates."""

    text: str
    x: float
    y: float
    color: str
    bold: bool = False


def place_labels(axes: Axes, labels: Sequence[PointLabel], obstacles: Sequence[tuple[float, float]]) -> None:
    """Writes each label at the free spot nearest to its point, with a thin line to it when that is not next to it.

    ``obstacles`` are points in data coordinates. The axes' limits and the layout must be final. Where nothing is free,
    the least bad spot is taken.
    """
    import numpy as np

    figure = axes.figure
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    pixels = figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    bounds = (frame.x0, frame.y0, frame.x1, frame.y1)
    points = [tuple(axes.transData.transform(p)) for p in obstacles]
    taken = np.array([(x - 4 * pixels, y - 4 * pixels, x + 4 * pixels, y + 4 * pixels) for x, y in points])
    taken = taken.reshape(-1, 4)
    for label in sorted(labels, key=lambda item: (-item.x, -item.y)):
        weight = "bold" if label.bold else "normal"
        probe = axes.text(0, 0, label.text, fontsize=8.8, weight=weight)
        extent = probe.get_window_extent(renderer)
        probe.remove()
        px, py = axes.transData.transform((label.x, label.y))
        best: tuple[float, int, int, float] | None = None
        for ring in _RINGS:
            for dx, dy in _DIRECTIONS:
                box = _box((px, py), (dx, dy), ring * _GAP * pixels, (extent.width, extent.height))
                cost = 10 * _outside(box, bounds) + float(_overlaps(box, taken).sum()) + 18 * ring
                cost += 6 * (dx <= 0) + 4 * (dy != 0)
                if best is None or cost < best[0]:
                    best = (cost, dx, dy, ring)
        assert best is not None
        _, dx, dy, ring = best
        own = _box((px, py), (dx, dy), ring * _GAP * pixels, (extent.width, extent.height))
        taken = np.concatenate([taken, np.array([own])])
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(dx * ring * _GAP, dy * ring * _GAP),
            textcoords="offset points",
            ha={1: "left", 0: "center", -1: "right"}[dx],
            va={1: "bottom", 0: "center", -1: "top"}[dy],
            fontsize=8.8,
            weight=weight,
            color=label.color,
            arrowprops=_line(label.color, dx, dy) if ring > 1.5 else None,
            bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.4},
            annotation_clip=False,
            zorder=6,
        )


def _line(color: str, dx: int, dy: int) -> dict[str, Any]:
    """From the corner or side of the label that is nearest to its point, so that nothing has to be clipped."""
    nearest = ((1 - dx) / 2, (1 - dy) / 2)
    return {
        "arrowstyle": "-", "color": color, "lw": 0.6, "shrinkA": 0, "shrinkB": 4, "patchA": None, "relpos": nearest
    }  # fmt: skip


def _box(point: tuple[float, float], direction: tuple[int, int], distance: float, size: tuple[float, float]) -> Box:
    """The box of a label of this size, at a distance from its point."""
    (x, y), (dx, dy), (width, height) = point, direction, size
    left = x + dx * distance - (0 if dx > 0 else width if dx < 0 else width / 2)
    bottom = y + dy * distance - (0 if dy > 0 else height if dy < 0 else height / 2)
    return left, bottom, left + width, bottom + height


def _overlaps(box: Box, others: FloatArray) -> FloatArray:
    """``_overlap`` with each of [n, 4] boxes."""
    import numpy as np

    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    found: FloatArray = np.maximum(0.0, width) * np.maximum(0.0, height)
    return found


def _overlap(a: Box, b: Box) -> float:
    """Shared area in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, bounds: Box) -> float:
    """Area of the box outside the bounds."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, bounds)
