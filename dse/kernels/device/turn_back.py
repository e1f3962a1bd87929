"""The inverse of the rotations of a stack's members, one launch for all: a fast Hadamard transform, then the signs."""
# mypy: ignore-errors
# ruff: noqa: RUF005

import triton
import triton.language as tl

from dse.kernels.device.bf16 import stored
from dse.kernels.device.block_quantizer import FLOATS, INTS
from dse.kernels.device.element_groups import rotate
from dse.kernels.device.lattice import bits_of, float_of
from dse.kernels.device.quantize import SIGN_WORDS
from dse.kernels.device.tiles import load_groups, positions, store_groups


@triton.jit(do_not_specialize=["tiles_k", "tiles"])
def turn_back_kernel(
    source, source_e, source_r, source_k, R, K, target, target_e, target_r, target_k, columns,
    int_table, float_table, signs, tiles_k, tiles,
    RUN: tl.constexpr, STORE: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr, STAGES: tl.constexpr,
    INTERPRET: tl.constexpr,
):  # fmt: skip
    """Tiles of source [E, R, K], K padded to the widest rotation, to target [E, R, columns]."""
    pid = tl.program_id(0)
    e = (pid // tiles).to(tl.int64)
    tile = pid % tiles
    row, group = positions((tile // tiles_k) * (P // INNER), (tile % tiles_k) * INNER, False, P, INNER)
    x = load_groups(source + e * source_e, row, group, R, K, source_r, source_k, False, RUN)
    size = tl.load(int_table + e * INTS + 1)
    if size > 1:
        x = rotate(x, size, tl.load(float_table + e * FLOATS + 9), group * 0, 1, STAGES)
        mask = tl.load(signs + e * SIGN_WORDS + (group & ((size - 1) >> 4)))
        y = ()
        for i in tl.static_range(16):
            y = y + (float_of(bits_of(x[i]) ^ ((mask << (31 - i)) & -2147483648)),)
        x = y
    y = ()
    for i in tl.static_range(16):
        y = y + (stored(x[i], target, INTERPRET),)
    store_groups(target + e * target_e, y, row, group, R, columns, target_r, target_k, False, STORE)
