"""Counts at one quantization point: the techniques at work there, and the number of blocks of its operand."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dse.cost.shapes import LayerShape
from dse.cost.sharing import TENSORS
from dse.numerics.gemm import Gemm
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import Recipe
from dse.numerics.recipe_fields import quantizes

SYMBOLS = {"X": "MK", "W": "NK", "G": "MN"}
"""The size of each tensor."""
_AXES = {
    "fprop.lhs": "MK",
    "fprop.rhs": "NK",
    "dgrad.lhs": "MN",
    "dgrad.rhs": "KN",
    "wgrad.lhs": "NM",
    "wgrad.rhs": "KM",
}
"""Rows and columns of the operand at each quantization point; columns are the contraction axis."""


def techniques(recipe: Recipe, point: str) -> Iterator[tuple[str, Ops]]:
    """(technique, operation count) at a quantization point.

    The forward GEMM's points bear what the gradients of X and W pass on their way back through its quantizers and its
    rotation; a weight rule stands at W's, a schedule at the gradient's. After training nothing passes back, and X bears
    what the method does to it.
    """
    gemm: Gemm = getattr(recipe, point.split(".")[0])
    quantizer = recipe.quantizer(point)
    if gemm.rotation is not None:
        yield "rotation", gemm.rotation.ops()
    yield from quantizer.ops()
    split = recipe.decomposition if quantizes(gemm) else None
    if split is not None and (parts := split.point_ops(point)) is not None:
        yield "decomposition", parts
    if recipe.post is not None:
        for part in ("balance", "branch"):
            if (own := getattr(recipe.post, part)) is not None:
                yield part, own.ops()
        return
    if point.startswith("fprop"):
        yield from quantizer.vjp_ops()
        if gemm.rotation is not None:
            back = gemm.rotation.ops()
            if recipe.backward_source == "forward":  # dX and dW are computed in the rotated space
                yield "rotation of gradient", back
            elif not quantizer.straight_through:
                yield "rotation of gradient", back + back
    for at, name, extra in (("fprop.rhs", "weight rule", recipe.weights), ("dgrad.lhs", "schedule", recipe.schedule)):
        if at == point and extra is not None and (ops := extra.ops()) != Ops(why=ops.why):
            yield name, ops


def blocks(layer: LayerShape, point: str, quantizer: Quantizer) -> tuple[int, str]:
    """Number of an operand's scales, and its formula: MK/16, M for one per row, nothing for one per tensor.

    Blocks that the operand's edge cuts count whole.
    """
    sizes = {"M": layer.tokens, "K": layer.inputs, "N": layer.outputs}
    rows, columns = (sizes[axis] for axis in _AXES[point])
    tile, block = quantizer.block_shape(rows, columns)
    divided = {axis: side for axis, side in zip(_AXES[point], (tile, block), strict=True) if side < sizes[axis]}
    symbol, area = "".join(a for a in SYMBOLS[TENSORS[point]] if a in divided), math.prod(divided.values())
    return -(-rows // tile) * -(-columns // block), symbol if area == 1 else f"{symbol}/{area}"
