"""Triton kernels for the quantizers: one launch for a stack of members with any mix of options, which are data.

The plain-torch quantizers are the specification; the kernels equal them bit for bit. ``uncovered`` says what they leave
to the reference.
"""

from dse.kernels.coverage import Use, available, exact_in_bf16, uncovered
from dse.kernels.launch import quantize, quantize_both
from dse.kernels.norms import norms
from dse.kernels.product import contract
from dse.kernels.sums import column_sums
from dse.kernels.table import Table, table

__all__ = [
    "Table",
    "Use",
    "available",
    "column_sums",
    "contract",
    "exact_in_bf16",
    "norms",
    "quantize",
    "quantize_both",
    "table",
    "uncovered",
]
