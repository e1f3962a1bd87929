"""How far quantized attention is from exact attention, in the measures of SageAttention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.nn.attention import attend
from dse.numerics.attention import Attention
from dse.numerics.random import Key


@dataclass(frozen=True)
class AttentionErrors:
    """Of an output O' against the exact O, over all elements.

    - ``cosine``: <O, O'> / (||O|| ||O'||); ``relative_l1``: sum |O - O'| / sum |O|;
    - ``rmse``: the root of the mean of (O - O')^2, in units of V.

    Source: arXiv 2410.02367 (SageAttention), Sec. 4.1.
    """

    cosine: float
    relative_l1: float
    rmse: float


def attention_errors(
    numerics: Attention, q: Tensor, k: Tensor, v: Tensor, causal: bool = False, *, seed: int = 0
) -> AttentionErrors:
    """Errors of softmax(q k^T / sqrt(D)) v under ``numerics`` against FP64, for q, k, v [..., T, D].

    ``seed``: of random bits, where the numerics draw some. Raises RuntimeError for operands that do not fit together.

    >>> from dse import RECIPES
    >>> q, k, v = torch.randn(3, 1, 4, 256, 64, generator=torch.Generator().manual_seed(0))
    >>> attention_errors(RECIPES["sageattention3"].attention, q, k, v).cosine > 0.97
    True
    """
    key = Key(torch.tensor([seed, 0], device=q.device), 0)
    with torch.no_grad():
        found = attend(numerics, q, k, v, causal, None, key).double()
        exact = attend(Attention(), q.double(), k.double(), v.double(), causal, None, key)
    off = found - exact
    return AttentionErrors(
        cosine=float((found * exact).sum() / (found.norm() * exact.norm())),
        relative_l1=float(off.abs().sum() / exact.abs().sum()),
        rmse=float(off.square().mean().sqrt()),
    )


__all__ = ["AttentionErrors", "attention_errors"]
