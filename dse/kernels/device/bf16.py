"""Rounding to BF16, to nearest even: the GPU's conversion, and its bits where Triton's interpreter would truncate."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def to_bf16(x, INTERPRET: tl.constexpr):
    """float32 -> bfloat16, to nearest even; beyond the largest number: infinity; NaN stays NaN."""
    if INTERPRET:
        u = x.to(tl.uint32, bitcast=True)
        rounded = (u + 0x7FFF + ((u >> 16) & 1)) >> 16
        return tl.where(x == x, rounded, 0x7FC0).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return x.to(tl.bfloat16)


@triton.jit
def stored(x, like, INTERPRET: tl.constexpr):
    """float32 ``x`` in the type that the pointer ``like`` points to: float32 or bfloat16."""
    if like.dtype.element_ty == tl.bfloat16:
        return to_bf16(x, INTERPRET)
    return x.to(like.dtype.element_ty)
