"""Loss laws drawn: a column per model size; above, losses against tokens with the law's curves, below, what each recipe
loses on its baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.report.analysis.law_fits import RecipeLaw, TaskLaw
from dse.report.analysis.loss_law import EffectiveShares
from dse.report.figures.drawing import Drawing
from dse.report.figures.point_marks import MarkTitles
from dse.report.figures.style import MUTED, Style, finished, new_figure, theme, title_lines
from dse.report.sections.law_rows import size_name
from dse.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dse.report.analysis.rank_correlation import FloatArray

_MOST_SIZES = 5
_CURVE = 40


def law_panels(found: Sequence[TaskLaw], styles: Mapping[str, Style]) -> Drawing | None:
    """Two rows a law, at most _MOST_SIZES columns (the smallest and largest sizes among them); ``styles`` by
    configuration. None where no law is fitted."""
    fitted = [one for one in found if one.law is not None]
    if not fitted:
        return None
    columns = min(_MOST_SIZES, max(len(_sizes(one)) for one in fitted))
    titles = MarkTitles()
    with theme():
        figure = new_figure(5.2 * len(fitted) + 0.4)
        grid = figure.subplots(2 * len(fitted), columns, squeeze=False)
        for i, one in enumerate(fitted):
            above, below = grid[2 * i], grid[2 * i + 1]
            chosen = _chosen(one, columns)
            for k, size in enumerate(chosen):
                above[k].set_title(title_lines(f"{one.task}: {size_name(size)} parameters", columns))
                _Column(above[k], below[k], one, size, styles, titles).draw()
            for axes in (*above[len(chosen) :], *below[len(chosen) :]):
                axes.set_visible(False)
            above[0].set_ylabel("held-out loss")
            below[0].set_ylabel(f"% over {one.baseline}")
        for axes in grid[-1]:
            axes.set_xlabel("training tokens")
        _legend(figure, fitted, styles)
        return finished(figure, titles.texts)


def _sizes(one: TaskLaw) -> list[int]:
    return sorted({at.parameters for at, _ in one.losses})


def _chosen(one: TaskLaw, columns: int) -> list[int]:
    """The sizes that are drawn: the smallest and the largest, and even steps between them."""
    import numpy as np

    sizes = _sizes(one)
    return sizes if len(sizes) <= columns else [sizes[round(i)] for i in np.linspace(0, len(sizes) - 1, columns)]


@dataclass(frozen=True)
class _Column:
    """The two panels of one size."""

    above: Axes
    below: Axes
    one: TaskLaw
    size: int
    styles: Mapping[str, Style]
    titles: MarkTitles

    def draw(self) -> None:
        known = {at.tokens: loss for at, loss in self.one.losses if at.parameters == self.size}
        for axes in (self.above, self.below):
            axes.set_xscale("log")
            axes.set_xticks([*known], [size_name(tokens) for tokens in known])
            axes.set_xticks([], minor=True)
        self._baseline(known)
        self.below.axhline(0, color=MUTED, lw=1, zorder=1)
        for own in self.one.recipes:
            self._recipe(own, known)

    def _baseline(self, known: Mapping[int, float]) -> None:
        style, said = self.styles[self.one.baseline], self._name(self.one.baseline)
        x, losses = self._curve(known)
        self.above.plot(x, losses, color=style.color, lw=1.5, gid=self.titles.id(f"{said}\nthe law"))
        marks = self.above.scatter([*known], [*known.values()], s=20, color=style.color, marker=style.marker, zorder=4)
        texts = (f"{said}\nloss {loss:.4f} at {tokens:,} tokens" for tokens, loss in known.items())
        marks.set_gid(self.titles.id(*texts))

    def _recipe(self, own: RecipeLaw, known: Mapping[int, float]) -> None:
        mine = [point for point in own.excess if point.at.parameters == self.size]
        if not mine or self.one.law is None:
            return
        style, said, (x, losses) = self.styles[own.config], self._name(own.config), self._curve(known)
        shares = EffectiveShares(own.parameters.value, own.tokens.value)
        excess = shares.excess(self.one.law, self.size, x)
        worth = f"worth {shares.parameters:.3f} of the parameters and {shares.tokens:.3f} of the tokens"
        reached = [known[point.at.tokens] * (1 + point.measured) for point in mine]
        texts = [
            f"{said}\nloss {loss:.4f} at {point.at.tokens:,} tokens\n{100 * point.measured:.2f} % over "
            f"{self.one.baseline}, mean of {plural(own.seeds, 'seed')}; the law: {100 * point.fitted:.2f} %"
            for point, loss in zip(mine, reached, strict=True)
        ]
        line = {"color": style.color, "lw": 1.2, **({"dashes": style.dashes} if style.dashes else {})}
        for axes, curve, values in (
            (self.above, losses * (1 + excess), reached),
            (self.below, 100 * excess, [100 * point.measured for point in mine]),
        ):
            axes.plot(x, curve, gid=self.titles.id(f"{said}\n{worth}"), **line)
            tokens = [point.at.tokens for point in mine]
            marks = axes.scatter(tokens, values, s=16, color=style.color, marker=style.marker, zorder=3)
            marks.set_gid(self.titles.id(*texts))

    def _curve(self, known: Mapping[int, float]) -> tuple[FloatArray, FloatArray]:
        """Tokens, and the law's losses of the baseline there."""
        import numpy as np

        x = np.geomspace(min(known), max(known), _CURVE)
        assert self.one.law is not None
        return x, self.one.law.loss(self.size, x)

    def _name(self, config: str) -> str:
        return f"{config}, {size_name(self.size)} parameters"


def _legend(figure: Figure, found: Sequence[TaskLaw], styles: Mapping[str, Style]) -> None:
    from matplotlib.lines import Line2D

    names = dict.fromkeys(name for one in found for name in (one.baseline, *(own.config for own in one.recipes)))
    handles = [
        Line2D([], [], color=styles[name].color, marker=styles[name].marker, ms=4.5, lw=1.5, label=name)
        for name in names
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(8, math.ceil(len(handles))), handlelength=1.4)


__all__ = ["law_panels"]
