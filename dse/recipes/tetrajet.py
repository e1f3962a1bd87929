"""TetraJet: MXFP4 without truncation, unbiased double quantization, and two cures for oscillating weights.

s = 2^ceil(log2(amax / 6)) per block of 32, so that nothing saturates; f = nearest-even forward:
Y = f(X) f(W)^T. Backward, from the forward copies along the other axis, with stochastic rounding of all four operands:
dX = SR(G) SR(f(W)), dW = SR(G)^T SR(f(X)).

- Q-EMA: each weight takes the grid neighbor that is nearer to W_ema = .998 W_ema + .002 W.
- Q-Ramping: oscillating weights are updated every N steps by the mean gradient, N times as far.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rounding import AwayFromZero, Stochastic
from dse.numerics.techniques.weights import QEma, QRamping

_Q = BlockQuantizer(E2M1, E8M0, 32, scale_rounding=AwayFromZero())
_SR = replace(_Q, rounding=Stochastic())

TETRAJET = Recipe(
    "tetrajet",
    "MXFP4 with scales rounded up; backward GEMMs of the forward copies with stochastic operands",
    "arXiv 2502.20853 (TetraJet), without a cure for oscillation",
    fprop=Gemm(_Q, _Q),
    dgrad=Gemm(_SR, _SR),
    wgrad=Gemm(_SR, _SR),
    backward_source="forward",
)

TETRAJET_Q_EMA = replace(
    TETRAJET,
    name="tetrajet_q_ema",
    summary="TetraJet, weights rounded toward their moving average",
    source="arXiv 2502.20853 (TetraJet + Q-EMA)",
    weights=QEma(),
)

TETRAJET_Q_RAMPING = replace(
    TETRAJET,
    name="tetrajet_q_ramping",
    summary="TetraJet, oscillating weights updated less often",
    source="arXiv 2502.20853 (TetraJet + Q-Ramping)",
    weights=QRamping(),
)
