"""The cost table of one layer, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.cost.overhead import CostRow
from dse.cost.shapes import LayerShape

if TYPE_CHECKING:
    from rich.table import Table

_COUNTS = {
    "vector": ("vector", ""),
    "matrix": ("matrix", ""),
    "random_bits": ("random", "b"),
    "read_bytes": ("read", "B"),
    "syncs": ("sync", ""),
}
"""Counts of a row -> column title and unit."""
_CAPTION = (
    "M tokens, K inputs, N outputs. % of the time of the layer's three GEMMs at the FP4 rate, nothing overlapped.\n"
    "Extra reads (whole passes over an operand) are not part of it."
)


def render(rows: Sequence[CostRow], layer: LayerShape | None = None) -> Table:
    """A table of the rows of ``breakdown`` with their sum; ``layer`` gives it a title. Reads best at 100 columns."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=str(layer) if layer else None,
        caption=_CAPTION,
        title_justify="left",
        caption_justify="left",
        show_footer=True,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    counts = {name: sum(getattr(row, name) for row in rows) for name in _COUNTS}
    counts = {name: total for name, total in counts.items() if total}  # a column that is all zero says nothing
    table.add_column("GEMM", "all", no_wrap=True)
    table.add_column("")
    table.add_column("technique")
    table.add_column("operations")
    for name, total in counts.items():
        title, unit = _COUNTS[name]
        table.add_column(title, quantity(total, unit), justify="right", no_wrap=True)
    table.add_column("%", f"{sum(row.percent for row in rows):.2f}", justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        same_gemm = i > 0 and row.gemm == rows[i - 1].gemm
        same_operand = same_gemm and row.operand == rows[i - 1].operand
        table.add_row(
            "" if same_gemm else row.gemm,
            "" if same_operand else row.operand,
            row.technique,
            _operations(row),
            *(quantity(getattr(row, name), _COUNTS[name][1]) for name in counts),
            f"{row.percent:.2f}",
            end_section=i + 1 == len(rows) or rows[i + 1].gemm != row.gemm,
        )
    if not rows:
        table.add_row("", "", "nothing is quantized")
    return table


def _operations(row: CostRow) -> str:
    """The formula, and what is counted elsewhere."""
    if not row.note:
        return row.formula
    return row.note if row.formula == "0" else f"{row.formula}; {row.note}"


def quantity(value: float, unit: str = "") -> str:
    """A count with three digits and a decimal prefix; nothing for zero.

    >>> quantity(117440512), quantity(2.5e12, "B"), quantity(0), quantity(3)
    ('117 M', '2.50 TB', '', '3')
    """
    if not value:
        return ""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {prefix}{unit}"
    return f"{value:g} {unit}".rstrip()
