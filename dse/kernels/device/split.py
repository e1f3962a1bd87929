"""float32 numbers as sums of three BF16 numbers."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.bf16 import to_bf16


@triton.jit
def split_kernel(
    x, x_e, x_r, x_c, alpha, out, o_p, o_e, o_r, rows, columns, SCALED: tl.constexpr, BR: tl.constexpr,
    BC: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """A tile of one member's [rows, columns] into the three parts ``out`` [3, E, rows, >= columns].

    SCALED: the parts are those of x times the member's ``alpha``, rounded to FP32.
    """
    across = tl.cdiv(columns, BC)
    tile, e = tl.program_id(0), tl.program_id(1).to(tl.int64)
    r = (tile // across * BR + tl.arange(0, BR))[:, None]
    c = (tile % across * BC + tl.arange(0, BC))[None, :]
    ok = (r < rows) & (c < columns)
    rest = tl.load(x + e * x_e + r.to(tl.int64) * x_r + c.to(tl.int64) * x_c, mask=ok, other=0.0).to(tl.float32)
    if SCALED:
        rest = rest * tl.load(alpha + e)
    o = out + e * o_e + r.to(tl.int64) * o_r + c
    largest = 3.3895313892515355e38  # of BF16
    for part in tl.static_range(3):
        near = tl.where(tl.abs(rest) < float("inf"), tl.minimum(tl.maximum(rest, -largest), largest), rest)
        rounded = to_bf16(near, INTERPRET)
        tl.store(o + part * o_p, rounded, mask=ok)
        whole = rounded.to(tl.float32)
        rest = tl.where(tl.abs(whole) < float("inf"), rest - whole, 0.0)
