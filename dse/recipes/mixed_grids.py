"""Element grids chosen block by block: MixFP4 and RaZeR, in NVIDIA's NVFP4 layout.

S = 448 * 6 / amax, s_i = E4M3(amax_b S / max_i), f_i(X) = Q_i(X S / s_i) s_i / S, of which a block has the one with the
smaller squared error; 16 x 16 weight tiles, stochastic G, Hadamard 16 in the weight gradient, as ``nvfp4``.

- ``mixfp4``: Q is E2M1 or E1M2, told by the sign bit of the E4M3 scale; E1M2 is INT4's 0 ... 7 here, which is its 0 ...
  3.5 with a scale half as large.
- ``razer``: the code of -0 is 5 or -5, so that Q is E2M1 with one value more; a scale that rounds to zero is 2^-9. The
  released variant for weights has 4 special values with E3M3 scales.

Both papers quantize trained models; the layout of training is ours, and so are X, W chosen and G not: choosing after a
stochastic rounding would bias it.
"""

from dataclasses import replace

from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.choices import Choice, Grids
from dse.numerics.techniques.conventions import Decode
from dse.numerics.value_formats import value_format
from dse.recipes.nvfp4 import NVFP4

_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_BOTH = sorted({-v for v in _E2M1[1:]} | set(_E2M1))
_MINUS, _PLUS = (value_format(sorted([*_BOTH, special])) for special in (-5.0, 5.0))


def _recipe(name: str, summary: str, source: str, **options: object) -> Recipe:
    x, w = (replace(q, **options) for q in (NVFP4.fprop.lhs, NVFP4.fprop.rhs))  # type: ignore[type-var]
    wgrad = replace(NVFP4.wgrad, rhs=x)
    return Recipe(name, summary, source, fprop=Gemm(x, w), dgrad=Gemm(NVFP4.dgrad.lhs, w), wgrad=wgrad)


_TWO: Choice = Grids()

MIXFP4 = _recipe(
    "mixfp4",
    "NVFP4 layout with E2M1 or E1M2 elements by block for X and W, by squared error",
    "arXiv 2605.31035 (MixFP4), format; layout of arXiv 2509.25149",
    choice=_TWO,
)

RAZER = _recipe(
    "razer",
    "NVFP4 layout with E2M1 and 5 or -5 in place of -0 by block for X and W, by squared error",
    "arXiv 2501.04052 (RaZeR) and its released quantizer, format; layout of arXiv 2509.25149",
    element=_MINUS,
    choice=Grids((_PLUS,)),
    convention=Decode(zero="smallest"),
)
