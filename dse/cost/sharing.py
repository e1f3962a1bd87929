"""Shared work: operations that a real kernel does once although the recipe has them at two quantization points.

Every tensor is an operand of two GEMMs: X of fprop and wgrad, W of fprop and dgrad, G of dgrad and wgrad. Two rules say
when the second use is free; nothing else is assumed to be shared. Backward GEMMs that quantize the forward copies of X
and W (``backward_source: forward``) have tensors of their own.

1. *Codes.* The two uses are blocked along different axes, so they are different quantizations unless blocks are
   square tiles (``tile == block``; 0 and 0 is the whole tensor), which a transposition maps onto themselves. With equal
   quantizers, no rotation in either GEMM (it would mix along different axes) and no random bits (each point draws its
   own), the second use reads the codes and scales of the first. Only the epilogue's work per output is then counted
   twice.
2. *Tensor-wide passes.* The amax of a whole tensor does not depend on blocks or orientation. With equal tensor scales
   (or one block scale for the whole tensor, from equal statistics) and no rotation in either GEMM (rotated values have
   another amax), its extra read and its grid-wide dependency are counted once. The block maxima differ with the blocks,
   so their operations are counted at both.
"""

from __future__ import annotations

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.ops import Ops
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.statistics import Statistic
from dse.numerics.techniques.tensor_scales import TensorScale

TENSORS = {
    "fprop.lhs": "X",
    "fprop.rhs": "W",
    "dgrad.lhs": "G",
    "dgrad.rhs": "W",
    "wgrad.lhs": "G",
    "wgrad.rhs": "X",
}
"""The tensor at each quantization point."""

FIRST = {"dgrad.rhs": "fprop.rhs", "wgrad.lhs": "dgrad.lhs", "wgrad.rhs": "fprop.lhs"}
"""A tensor's second use -> its first."""


def codes_from(recipe: Recipe, point: str) -> str | None:
    """The earlier point whose quantized tensor this one reads again (rule 1), or None."""
    first = _unrotated_pair(recipe, point)
    if first is None:
        return None
    a, b = recipe.quantizer(first), recipe.quantizer(point)
    square = isinstance(a, BlockQuantizer) and a.tile == a.block and not a.random_bits
    return first if square and a == b else None


def passes_from(recipe: Recipe, point: str) -> str | None:
    """The earlier point whose tensor-wide passes serve this one too (rule 2), or None."""
    first = _unrotated_pair(recipe, point)
    if first is None:
        return None
    a, b = recipe.quantizer(first), recipe.quantizer(point)
    if not (isinstance(a, BlockQuantizer) and isinstance(b, BlockQuantizer)):
        return None
    return first if _measured(a) is not None and _measured(a) == _measured(b) else None


def _measured(q: BlockQuantizer) -> TensorScale | Statistic | None:
    """The technique that makes a pass over the whole tensor; None where there is none."""
    return q.statistic if q.tensor_scale is None and q.block == q.tile == 0 else q.tensor_scale


def counted(recipe: Recipe, point: str, ops: Ops) -> tuple[Ops, str]:
    """A technique's operations at a point, without shared work that is counted where it is first done.

    The second part says in words what was left out, or is empty.
    """
    if first := codes_from(recipe, point):
        return Ops(output=ops.output, why=ops.why), f"codes of {first}"
    if (ops.reads or ops.syncs) and (first := passes_from(recipe, point)):
        return replace(ops, reads=0, syncs=0), f"amax of {first}"
    return ops, ""


def _unrotated_pair(recipe: Recipe, point: str) -> str | None:
    """The tensor's first use, if this is its second and neither GEMM rotates."""
    first = FIRST.get(point)
    if first is None or (recipe.backward_source == "forward" and TENSORS[point] != "G"):
        return None
    gemms = (getattr(recipe, p.split(".")[0]) for p in (first, point))
    return first if all(gemm.rotation is None for gemm in gemms) else None
