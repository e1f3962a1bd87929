"""The numerics of softmax attention's two products, each of which is a linear in the three-GEMM sense.

Q, K, V, O [T, D] of one sample and head; S = Q K^T / sqrt(D), masked, P = softmax(S), O = P V:

=========  =========================  ==========================  ============================  =======================
product    ``fprop``                  ``dgrad``                   ``wgrad``                     contraction
=========  =========================  ==========================  ============================  =======================
scores     Q K^T                      dQ = dS (K^T)^T             dK = dS^T (Q^T)^T             D; keys; queries
outputs    P (V^T)^T                  dP = dO V^T                 dV^T = dO^T (P^T)^T           keys; D; queries
=========  =========================  ==========================  ============================  =======================

So X, W and G are Q, K and dS of the scores, P, V^T and dO of the outputs. dS is the gradient of Q K^T itself: the
factor 1 / sqrt(D) and the mask come after the product, in FP32, as do the softmax and its derivative. P is quantized
after the softmax (and after dropout), so what a causal mask hides is exactly zero in either direction. Blocks of V^T
run along the keys, as the hardware needs them: under a causal mask their scales, and with them the rounding of a
token's V, depend on up to block - 1 later tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dse.errors import OptionError
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Quantizer

PRODUCTS = ("scores", "outputs")


@dataclass(frozen=True)
class Product:
    """Numerics of one product A B^T of attention and of its two gradients; the fields are those of a recipe.

    Raises OptionError for an unknown ``backward_source``.
    """

    fprop: Gemm = field(default_factory=Gemm)
    dgrad: Gemm = field(default_factory=Gemm)
    wgrad: Gemm = field(default_factory=Gemm)
    backward_source: str = "original"

    def __post_init__(self) -> None:
        if self.backward_source not in ("original", "forward"):
            raise OptionError(f"backward_source must be 'original' or 'forward', not {self.backward_source!r}")

    def quantizer(self, point: str) -> Quantizer:
        """The quantizer at a point such as ``wgrad.rhs``."""
        gemm, side = point.split(".")
        return getattr(getattr(self, gemm), side)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Attention:
    """Softmax attention with quantized products, computed unfused in FP32.

    Scales are those of one sample and head: tiles and tensor scales never reach over the matrix [T, D] or [T, T] that
    a GEMM multiplies, as reductions are over the last two axes everywhere in this project.

    - ``scores``, ``outputs``: the numerics of Q K^T and of P V;
    - ``smooth_keys``: the keys' mean over the tokens of a sample is subtracted before Q K^T. It moves all scores of a
      query by the same number, which the softmax does not see; only the rounding errors change (and, under a causal
      mask, depend on later tokens through the mean). Source: SageAttention, arXiv 2410.02367;
    - ``smooth_queries``: tokens of a tile (0: all) whose mean is subtracted from its queries before Q K^T; none: no
      means. Unlike the keys' mean it changes scores, by the mean times the (smoothed) keys, and this product is added
      to them in FP32, from operands that are not quantized. A last tile that is not full has the mean of its own
      tokens. Source: SageAttention3, arXiv 2505.11594, Sec. 3.2: tiles of 128.

    Raises OptionError for a negative tile.
    """

    scores: Product = field(default_factory=Product)
    outputs: Product = field(default_factory=Product)
    smooth_keys: bool = False
    smooth_queries: int | None = None

    def __post_init__(self) -> None:
        if self.smooth_queries is not None and self.smooth_queries < 0:
            raise OptionError(f"smooth_queries must be at least 0 (0: all tokens), not {self.smooth_queries}")


__all__ = ["PRODUCTS", "Attention", "Product"]
