"""TetraJet-v2: NVFP4 with an FP32 scale per 1 x 128 in place of the tensor scale.

g = amax of 128 consecutive elements, S = 448 * 6 / g, s = E4M3(amax_16 S / 6), f(X) = E2M1(X S / s) s / S.
Y = f(X) f(W)^T with nearest-even; backward, from the forward copies, with diag(+-1) H_16 (fresh signs) on both operands
of both GEMMs and stochastic rounding of all four. A block scale that rounds to zero gives a zero block forward and is
2^-9 backward. OsciReset puts oscillating weights onto their grid value; the paper starts it at about 64 % of the
training, here it runs from the first step (``weights.start``).

OutControl multiplies the 10 % of input channels with the largest norms in MXFP8, in the forward and the weight
gradient's GEMM. The paper measures norms in steps 501 to 550 of 12,500 to 50,500; ``tetrajet2_outcontrol`` in steps 50
to 99 (``decomposition.start``), since trainings here are shorter. Left out there: the released kernels round the number
of channels up to a multiple of 128, and OsciReset's grid is that of the reordered FP4 channels alone; here it is that
of W as it lies, all channels.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.conventions import Decode
from dse.numerics.techniques.decompositions import OutControl
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Outer
from dse.numerics.techniques.weights import OsciReset

_Q = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Outer(8))
_SR = replace(_Q, rounding=Stochastic(), convention=Decode(zero="smallest"))
_BACKWARD = Gemm(_SR, _SR, Hadamard(16))

TETRAJET2_BASE = Recipe(
    "tetrajet2_base",
    "NVFP4 in FP32-scaled groups of 128; random Hadamard 16 and SR on all backward operands, from the forward copies",
    "arXiv 2510.27527 (TetraJet-v2), base",
    fprop=Gemm(_Q, _Q),
    dgrad=_BACKWARD,
    wgrad=_BACKWARD,
    backward_source="forward",
)

TETRAJET2 = replace(
    TETRAJET2_BASE,
    name="tetrajet2",
    summary="TetraJet-v2 base with OsciReset from the first step (OutControl left out)",
    source="arXiv 2510.27527 (TetraJet-v2)",
    weights=OsciReset(),
)

TETRAJET2_OUTCONTROL = replace(
    TETRAJET2,
    name="tetrajet2_outcontrol",
    summary="TetraJet-v2 with OsciReset from the first step and 10 % of the input channels in MXFP8 from step 100",
    decomposition=OutControl(start=50),
)
