"""Philox4x32-10, call by call: the twin of ``dse.numerics.random``."""
# mypy: ignore-errors

import numpy as np
from numba import uint64

from dse.kernels.loops.compile import inner, loop

_M0, _M1, _W0, _W1 = (np.uint64(n) for n in (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85))
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@inner
def draw_row(out, first, purpose, layer, clock):
    """The four words of each of the calls ``first``, ``first`` + 1 ..., one call after the other in ``out``, uint32."""
    seed, step = uint64(clock[0]), uint64(clock[1]) & _MASK
    low, high = seed & _MASK, seed >> _HALF
    for i in range(out.shape[0] // 4):
        c0, c1, c2, c3 = uint64(first + i), uint64(purpose), uint64(layer), step
        k0, k1 = low, high
        for _ in range(10):
            a, b = c0 * _M0, c2 * _M1
            c0 = (b >> _HALF) ^ c1 ^ k0
            c2 = (a >> _HALF) ^ c3 ^ k1
            c1, c3 = b & _MASK, a & _MASK
            k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
        out[4 * i] = c0
        out[4 * i + 1] = c1
        out[4 * i + 2] = c2
        out[4 * i + 3] = c3


@loop("void(uint32[:, ::1], int64, int64, int64[:, ::1])")
def draw(out, purpose, layer, clock):
    """``out`` [E, 4 calls]: the first calls of the streams of E members, whose ``clock`` is [E, 2]."""
    for e in range(out.shape[0]):
        draw_row(out[e], 0, purpose, layer, clock[e])
