"""Adam's step in one Triton kernel: one read and one write of everything, bit for bit equal to ``adam``."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(p, g, m, v, numbers, active, size, eps, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    member = tl.program_id(1).to(tl.int64)
    if tl.load(active + member) != 0:
        column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = column < size
        at = member * size + column
        own = numbers + 6 * member
        take1, keep2, take2 = tl.load(own), tl.load(own + 1), tl.load(own + 2)
        root, rate, keep = tl.load(own + 3), tl.load(own + 4), tl.load(own + 5)
        d = tl.load(g + at, mask=inside, other=0.0)
        first = tl.load(m + at, mask=inside, other=0.0)
        first = first + (d - first) * take1
        second = tl.load(v + at, mask=inside, other=0.0) * keep2 + d * d * take2
        below = tl.div_rn(tl.sqrt_rn(second), root) + eps
        w = tl.load(p + at, mask=inside, other=0.0) * keep + tl.div_rn(first * rate, below)
        tl.store(m + at, first, mask=inside)
        tl.store(v + at, second, mask=inside)
        tl.store(p + at, w, mask=inside)


def step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, numbers: Tensor, active: Tensor, eps: float) -> None:
    """Updates p, m, v in place: contiguous float32 [E, P], like g; ``active`` bool [E, 1].

    ``numbers`` float32 [E, 6], contiguous: 1 - b1, b2, 1 - b2, sqrt(1 - b2^t), -lr / (1 - b1^t), 1 - lr wd. Members
    that are not active are neither read nor written. Products and sums are rounded one by one (no fused multiply-add).
    """
    members, size = p.shape
    grid = (triton.cdiv(size, BLOCK), members)
    _kernel[grid](p, g, m, v, numbers, active.to(numbers.dtype), size, eps, BLOCK, enable_fp_fusion=False)
