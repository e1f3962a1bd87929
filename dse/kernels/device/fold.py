"""Sums of long axes as trees, in the order of dse.numerics.tree: a pass for every F numbers of a sum."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.trees import tree_total


@triton.jit(do_not_specialize=["programs", "parts"])
def fold_kernel(x, y, n, side, parts, programs, F: tl.constexpr, S: tl.constexpr):
    """x [A, n, side] -> y [A, parts, side]: trees over F elements of the middle axis."""
    pid = tl.program_id(0)
    a = (pid // programs).to(tl.int64)
    at = pid % programs
    part = at % parts
    s = (at // parts * S + tl.arange(0, S))[None, None, :, None]
    i = (part * F + tl.arange(0, F))[None, None, None, :]
    total = tree_total(tl.load(x + (a * n + i) * side + s, (i < n) & (s < side), 0.0).to(y.dtype.element_ty))
    s = (at // parts * S + tl.arange(0, S))[None, :]
    tl.store(y + (a * parts + part) * side + s, total, s < side)
