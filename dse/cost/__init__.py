"""The cost of a recipe at deployment shapes, from the operation counts that its techniques state.

=====================  ==============================================================================  ========  =====
number                 meaning                                                                         unit      bf16
=====================  ==============================================================================  ========  =====
``overhead``           extra vector and matrix operations, as time over that of the three FP4 GEMMs     percent   0
``relative_time``      the three GEMMs at their own operands' rate, plus those operations, over BF16's  ratio     1
``excess``             the same time, over that of the three FP4 GEMMs alone                            percent   300
``read_time``          extra passes over operands at full memory bandwidth; in none of the above        percent   0
=====================  ==============================================================================  ========  =====

``overhead`` compares recipes of one width: it says nothing of the GEMM itself, so BF16 and MXFP8 look free. On a plot
that mixes widths only ``relative_time`` is honest: it is what an hour of training becomes, and it charges MXFP8 for
running at the FP8 rate and FP4 recipes for their stabilizers. ``excess`` is the same axis from FP4's end,
``400 * relative_time - 100`` where FP4 runs four times as fast as BF16.

Attention's products, where a recipe quantizes them, are counted on top for the models of ``MODELS``: their extra
operations, and what their GEMMs take less (or more) than in BF16; 100 percent stays the linears' GEMMs, so recipes with
and without them stand on one axis. Not counted: that the scores of a kernel that is not fused pass through memory, and
that a fused one computes them again in the backward pass, under any recipe.

A recipe with rules about layers is counted by the rule that decides about each linear of the model, and about the
products of attention in each block (``dse.cost.ruled_shapes``).

With a precision schedule all are means over the steps of a training (``dse.cost.training_phases``).

All are upper bounds of the arithmetic and lower bounds of the whole: nothing overlaps, every unit runs at its peak, and
the memory traffic of quantizing (fused into a neighboring kernel or not) is left out, except that ``read_time`` shows
the passes that cannot be fused. Source: design-space model after arXiv 2509.17791 (op ratio, no overlap).
"""

from dse.cost.hardware import B200, HARDWARE, Hardware
from dse.cost.layer_table import render
from dse.cost.overhead import CostRow, attention, breakdown, excess, overhead, read_time, relative_time
from dse.cost.ruled_shapes import by_layer
from dse.cost.shapes import LLAMA3_8B, MODELS, LayerShape, parse_shape

__all__ = [
    "B200",
    "HARDWARE",
    "LLAMA3_8B",
    "MODELS",
    "CostRow",
    "Hardware",
    "LayerShape",
    "attention",
    "breakdown",
    "by_layer",
    "excess",
    "overhead",
    "parse_shape",
    "read_time",
    "relative_time",
    "render",
]
