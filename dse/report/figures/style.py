"""Style shared by all figures: a color and marker per recipe, type sizes, axis scales, and finishing."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.report.figures.drawing import Drawing, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 11.4  # inches; 1094 px at the browser's 96 px an inch
_TITLE_LETTERS = 126
"""Bold letters of a title that fit into the width, with room for the ticks of two panels and wider fonts."""
INK, MUTED, RULE = "#1c2430", "#667085", "#d9dee5"
PALETTE = ("#0173b2", "#d55e00", "#029e73", "#aa4499", "#c98500", "#3aa5d8", "#882255", "#7f8c1f", "#332288", "#cc6677")
"""After Okabe and Ito, and Paul Tol's 'muted': distinct for color-blind readers, and dark enough for text on white."""
MARKERS = "osD^vPX<>"
_DASHES: tuple[Any, ...] = ("", (5, 1.5), (1.5, 1.2), (6, 1.5, 1.5, 1.5))

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 8.8,
    "ytick.labelsize": 8.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a recipe's name is a $
    "legend.fontsize": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "dse",
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Style:
    """A recipe's look in every figure of a report."""

    color: str
    marker: str
    dashes: Any


Looks = Mapping[str, tuple[Style, int]]
"""Configuration -> its style, and its number in the page's details."""


def recipe_styles(recipes: Iterable[str], baseline: str) -> dict[str, Style]:
    """A color each, the baseline's gray; beyond the palette's ten, markers and dashes tell recipes apart."""
    styles = {baseline: Style("#3d4654", "o", "")}
    for i, recipe in enumerate(recipe for recipe in recipes if recipe != baseline):
        styles[recipe] = Style(PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)], _DASHES[i // len(PALETTE) % 4])
    return styles


@contextmanager
def theme() -> Iterator[None]:
    """seaborn's ticks style with the report's type and colors, for the figures made and saved inside."""
    import matplotlib as mpl
    import seaborn as sns

    with sns.axes_style("ticks"), mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has its own fonts
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """A figure of its own, unknown to pyplot, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.06)  # room for fonts that run wider elsewhere
    FigureCanvasAgg(figure)
    return figure


def finished(figure: Figure, titles: Sequence[str] = ()) -> Drawing:
    """The figure with its final layout; ``titles``: texts of its marks (``MarkTitles``)."""
    fix_layout(figure)
    return drawing(figure, titles)


def fix_layout(figure: Figure) -> None:
    """Computes the layout once and keeps it, so that labels can be placed in final coordinates."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def linear_up_to(values: Iterable[float]) -> float | None:
    """Where a symmetric logarithmic axis should begin, or None when a linear one shows the values well.

    A linear axis fails when half of the values share its lowest twentieth.
    """
    sizes = sorted(abs(v) for v in values if math.isfinite(v) and v != 0)
    if len(sizes) < 3:
        return None
    middle, largest = sizes[len(sizes) // 2], sizes[-1]
    if largest / middle <= 20:
        return None
    return float(10 ** math.floor(math.log10(middle)))


def title_lines(text: str, columns: int = 1) -> str:
    """A title in lines that fit above one of so many panels side by side, broken at spaces."""
    return textwrap.fill(text, int(_TITLE_LETTERS / columns), break_long_words=False, break_on_hyphens=False)


def symlog(axes: Axes, values: Iterable[float], axis: str = "y") -> bool:
    """Puts the axis on a symmetric logarithmic scale where the values ask for it, with plain tick labels."""
    begin = linear_up_to(values)
    if begin is None:
        return False
    from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

    set_scale = axes.set_yscale if axis == "y" else axes.set_xscale
    set_scale("symlog", linthresh=begin, linscale=0.7)
    ticks = axes.yaxis if axis == "y" else axes.xaxis
    ticks.set_major_locator(SymmetricalLogLocator(base=10, linthresh=begin))
    ticks.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}".replace("-", "−")))
    return True
