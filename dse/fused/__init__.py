"""Quantizers as Triton kernels: one launch for a stack of members with any mix of options, which are data.

The plain-torch quantizers are the specification; the kernels equal them bit for bit. ``uncovered`` says what they leave
to the reference, ``structure`` which members one launch takes.
"""

from dse.fused.block_table import BlockTable
from dse.fused.carried import Carried, KeptScale, carried, exact_in_bf16, exact_in_fp16, products
from dse.fused.checked import unchecked
from dse.fused.dispatch import Table, quantize, quantize_both, table
from dse.fused.gradients import GradientTable, gradient_structure, gradient_table, uncovered_gradient, vjp
from dse.fused.rows import RecipeTable
from dse.fused.support import Use, structure, uncovered
from dse.fused.turn_back import turn_back
from dse.fused.weight_rules import RuleStep, rule_step, uncovered_rule

__all__ = [
    "BlockTable",
    "Carried",
    "GradientTable",
    "KeptScale",
    "RecipeTable",
    "RuleStep",
    "Table",
    "Use",
    "carried",
    "exact_in_bf16",
    "exact_in_fp16",
    "gradient_structure",
    "gradient_table",
    "products",
    "quantize",
    "quantize_both",
    "rule_step",
    "structure",
    "table",
    "turn_back",
    "unchecked",
    "uncovered",
    "uncovered_gradient",
    "uncovered_rule",
    "vjp",
]
