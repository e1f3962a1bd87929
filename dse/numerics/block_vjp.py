"""The gradient of a block quantizer whose scales are constants: a product per element, in autograd's order.

f(X) = Q(X e) d alpha per element, so that dX = g alpha d Q'(u) e, u = X e, e and d the block's encode and decode
factors. Where e and d are no inverses of each other (a scale that is 0, or has no inverse) it is g Q'(u).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dse.numerics.techniques.conventions import Factors


def pulled_back(g: Tensor, factors: Factors, gains: tuple[float, float, float, float], slope: Tensor | None) -> Tensor:
    """dX in blocks [..., R/t, t, K/b, b], as g; ``factors`` are those of one candidate, without any gain.

    ``gains``: the quantizer's, what undoes it and the unit of values, the candidate's, and its multiple; ``slope``:
    Q'(u), None where it is 1. FP32 operations in the order
    of autograd's backward pass through ``BlockQuantizer``.
    """
    gain, undone, own, multiple = gains
    encode, decode, alpha = factors
    if alpha is not None and alpha.shape[-4:] == (1, 1, 1, 1):
        g = g * (alpha if undone == 1 else alpha * undone)
    else:
        g = g if undone == 1 else g * undone
        g = g if alpha is None else g * alpha
    broken = (decode == 0) | (encode == torch.finfo(g.dtype).max)
    passed = torch.where(broken, g, 0.0)
    passed = (passed if alpha is None else passed / alpha) / encode
    kept = torch.where(broken, 0.0, g)
    if multiple != 1:
        kept, passed = kept * multiple, passed * multiple
    g = passed + kept * decode
    g = g if slope is None else g * slope
    return (g if own == 1 else g * own) * with_gain(encode, gain)


def with_gain(encode: Tensor, gain: float) -> Tensor:
    """What elements are multiplied by before the cast."""
    return encode if gain == 1 else (encode * gain).clamp_max(torch.finfo(encode.dtype).max)
