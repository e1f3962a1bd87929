"""Reductions over the blocks of a tile [NR, T, NB, B]: NR x NB blocks of T x B elements.

Sums are pairwise trees, in the order of dse.numerics.tree.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.lattice import MAGNITUDE, bits_of, float_of


@triton.jit
def tree_total(x):
    """[NR, T, NB, B] -> [NR, NB]: along the rows of the blocks first; a sum of two is the same in either order."""
    for _ in tl.static_range(14):
        if x.shape[3] > 1:
            x = tl.sum(tl.reshape(x, (x.shape[0], x.shape[1], x.shape[2], x.shape[3] // 2, 2)), 4)
    y = tl.reshape(x, (x.shape[0], x.shape[1], x.shape[2]))
    for _ in tl.static_range(14):
        if y.shape[1] > 1:
            y = tl.sum(tl.reshape(y, (y.shape[0], y.shape[1] // 2, 2, y.shape[2])), 2)
    return tl.reshape(y, (y.shape[0], y.shape[2])) + 0.0


@triton.jit
def group_total(x, GROUP: tl.constexpr):
    """[NR, NB] -> [NR, NB]: the sum of GROUP blocks side by side, at each."""
    NR: tl.constexpr = x.shape[0]
    NB: tl.constexpr = x.shape[1]
    y = tl.reshape(x, (NR, NB // GROUP, GROUP))
    for _ in tl.static_range(14):
        if y.shape[2] > 1:
            y = tl.sum(tl.reshape(y, (NR, NB // GROUP, y.shape[2] // 2, 2)), 3)
    return tl.reshape(tl.broadcast_to(tl.reshape(y, (NR, NB // GROUP, 1)), (NR, NB // GROUP, GROUP)), (NR, NB)) + 0.0


@triton.jit
def block_max(bits):
    """[NR, T, NB, B] -> [NR, NB]: the largest integer of each block."""
    return tl.max(tl.max(bits, 3), 1)


@triton.jit
def block_peak(x):
    """The largest magnitude of each block, NaN above all."""
    return float_of(block_max(bits_of(x) & MAGNITUDE))
