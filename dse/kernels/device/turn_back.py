"""The inverse of the rotations of a stack's members, one launch for all: a fast Hadamard transform, then the signs."""
# mypy: ignore-errors
# ruff: noqa: RUF005

import triton
import triton.language as tl

from dse.kernels.device.bf16 import stored
from dse.kernels.device.block_quantizer import FLOATS, INTS
from dse.kernels.device.element_groups import flip, transform
from dse.kernels.device.quantize import SIGN_WORDS
from dse.kernels.device.tiles import load_groups, positions, store_groups


@triton.jit(do_not_specialize=["tiles_k", "tiles"])
def turn_back_kernel(
    source, source_e, source_r, source_k, R, K, target, target_e, target_r, target_k, columns,
    int_table, float_table, signs, signs_n, matrices, tiles_k, tiles,
    RUN: tl.constexpr, STORE: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr, STAGES: tl.constexpr,
    INTERPRET: tl.constexpr,
):  # fmt: skip
    """Tiles of source [E, R, K], K padded to the widest rotation, to target [E, R, columns]."""
    pid = tl.program_id(0)
    e = (pid // tiles).to(tl.int64)
    tile = pid % tiles
    row, group = positions((tile // tiles_k) * (P // INNER), (tile % tiles_k) * INNER, False, P, INNER)
    x = load_groups(source + e * source_e, row, group, R, K, source_r, source_k, False, RUN, False, INTERPRET)
    member = e // matrices
    size = tl.load(int_table + member * INTS + 1)
    if size > 1:
        x = transform(x, size, tl.load(float_table + member * FLOATS + 9), 1, STAGES)
        x = flip(x, signs + e // signs_n * SIGN_WORDS, group, size, STAGES, -1)
    y = ()
    for i in tl.static_range(16):
        y = y + (stored(x[i], target, INTERPRET),)
    store_groups(target + e * target_e, y, row, group, R, columns, target_r, target_k, False, STORE, False)
