"""Quantizers as Triton kernels: one launch for a stack of members with any mix of options, which are data.

The plain-torch quantizers are the specification; the kernels equal them bit for bit. ``uncovered`` says what they leave
to the reference.
"""

from dse.fused.launch import quantize, quantize_both
from dse.fused.rows import RecipeTable, table
from dse.fused.support import Use, exact_in_bf16, structure, uncovered
from dse.fused.turn_back import turn_back

__all__ = [
    "RecipeTable",
    "Use",
    "exact_in_bf16",
    "quantize",
    "quantize_both",
    "structure",
    "table",
    "turn_back",
    "uncovered",
]
