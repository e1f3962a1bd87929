"""The figure of accuracy after training: against bits per weight, and against time at inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL
from dse.report.analysis.post_front import PostConfig
from dse.report.figures import panel
from dse.report.figures.drawing import Drawing
from dse.report.figures.style import Style, finished, fix_layout, new_figure, theme

if TYPE_CHECKING:
    import pandas as pd


def after_training(
    found: Sequence[PostConfig], configs: pd.DataFrame, styles: dict[str, Style], numbers: dict[str, str]
) -> Drawing:
    """Two panels; ``numbers``: configuration -> its label, for those on a front."""
    import pandas as pd

    rows = configs[(configs["task"] == ALL) & configs["config"].isin([one.config for one in found])]
    known = pd.DataFrame([vars(one) for one in found]).set_index("config")
    columns = ["weight_bits", "time", "by_bits", "by_time"]
    rows = rows.drop(columns=columns, errors="ignore").join(known[columns], on="config")
    with theme():
        figure = new_figure(4.7)
        sides = [
            (axes, panel.placed_rows(rows, x, "lost", 100.0, front))
            for axes, x, front in zip(
                figure.subplots(1, 2), ("weight_bits", "time"), ("by_bits", "by_time"), strict=True
            )
        ]
        for axes, placed in sides:
            panel.draw_points(axes, placed, styles)
        (left, _), (right, _) = sides
        left.set(xlabel="bits per weight, Llama 3 8B", ylabel="improvement lost (%)   lower is better")
        right.set(xlabel="modelled time at inference (BF16 = 1)")
        fix_layout(figure)
        for axes, placed in sides:
            panel.label_points(axes, placed, styles, numbers)
        return finished(figure)
