"""Quantizers as Triton kernels: one launch for a stack of members with any mix of options, which are data.

The plain-torch quantizers are the specification; the kernels equal them bit for bit. ``uncovered`` says what they leave
to the reference, ``structure`` which members one launch takes.
"""

from dse.fused.block_table import BlockTable
from dse.fused.dispatch import Table, quantize, quantize_both, table
from dse.fused.rows import RecipeTable
from dse.fused.support import Use, exact_in_bf16, structure, uncovered
from dse.fused.turn_back import turn_back

__all__ = [
    "BlockTable",
    "RecipeTable",
    "Table",
    "Use",
    "exact_in_bf16",
    "quantize",
    "quantize_both",
    "structure",
    "table",
    "turn_back",
    "uncovered",
]
