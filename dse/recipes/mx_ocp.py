"""The MX library's training recipes: every operand in one OCP format, as in its default settings.

s = 2^(floor(log2 amax) - emax) per block of 32 along the contraction axis; q = round(X / s), halves away from zero
(the library's default in training), saturating; f(X) = q s. W and X are quantized anew for the backward GEMMs, each
from the original tensor. emax is 2 for E2M1 and E2M3, 4 for E3M2, 8 for E4M3, 6 for INT8 (in units of its last place).

Left out: the library's emulation of BF16 around the GEMMs. With its usual setting it rounds inputs, products, biases
and every vector operation to BF16, and quantizes X, W and G from BF16; here they are quantized from what the model
holds, FP32 in this project's tasks. Its logarithm puts some values just below a power of two a binade too high; here it
is exact. In the paper W alone is trained in four bits (``mxfp4_weights``).

The library's matrix products of two activations do the same: a model that calls them in its attention is
``attention: same`` on top of these recipes, which say nothing about attention.
"""

from dataclasses import replace

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E8M0, ELEMENTS, Format
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.rounding import NearestAway, TowardZero

_SOURCE = "OCP Microscaling Formats (MX) v1.0, 6.3; arXiv 2310.10537 and its library, microxcaling"


def _ocp(element: Format) -> BlockQuantizer:
    """The OCP floor rule for any element format, halves away from zero."""
    return BlockQuantizer(
        element, E8M0, 32, constant=2.0**element.emax, scale_rounding=TowardZero(), rounding=NearestAway()
    )


def _everywhere(name: str, summary: str, q: BlockQuantizer) -> Recipe:
    gemm = Gemm(q, q)
    return Recipe(name, summary, _SOURCE, fprop=gemm, dgrad=gemm, wgrad=gemm)


MXFP4_AWAY = _everywhere(
    "mxfp4_away", "MXFP4 as the MX library computes it by default: OCP floor scales, halves away from zero", _ocp(E2M1)
)
MXFP6 = _everywhere(
    "mxfp6", "E3M2 x E8M0 for W, X and G: trained from scratch near FP32 in the MX paper", _ocp(ELEMENTS["e3m2"])
)
MXFP6_E2M3 = _everywhere("mxfp6_e2m3", "MXFP6 with E2M3 elements: finer, less range", _ocp(ELEMENTS["e2m3"]))
MXFP8_OCP = _everywhere(
    "mxfp8_ocp", "E4M3 x E8M0 with OCP floor scales, which saturate; see mxfp8 for NVIDIA's rule", _ocp(E4M3)
)
MXINT8 = _everywhere("mxint8", "symmetric INT8 x E8M0 everywhere", _ocp(ELEMENTS["int8"]))

_SIX, _FOUR = _ocp(ELEMENTS["e3m2"]), _ocp(E2M1)

MXFP4_WEIGHTS = replace(
    MXFP6,
    name="mxfp4_weights",
    summary="the MX paper's 4-bit training: weights MXFP4, activations and gradients MXFP6 (E3M2)",
    fprop=Gemm(_SIX, _FOUR),
    dgrad=Gemm(_SIX, _FOUR),
)
