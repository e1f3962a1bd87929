"""The fast Walsh-Hadamard transform: the twin of ``dse.numerics.techniques.rotations.hadamard.transform``."""
# mypy: ignore-errors

import numpy as np

from dse.kernels.loops.compile import inner, loop

_WIDE = 64
"""Rows that are transformed together, so that each operation runs over neighbors in memory."""


@inner
def _butterflies(a, b):
    for k in range(a.shape[0]):
        total, difference = a[k] + b[k], a[k] - b[k]
        a[k], b[k] = total, difference


@loop("void(float32[:, :, ::1], float32[:, ::1], float32[:, :, ::1], float32)")
def transform(x, signs, out, factor):
    """x [B, M, size] times diag(signs) H ``factor``; ``signs`` [B, size], or [1, size] for all."""
    members, rows, size = x.shape
    y = np.empty((size, _WIDE), np.float32)
    for b in range(members):
        sign = signs[min(b, signs.shape[0] - 1)]
        for first in range(0, rows, _WIDE):
            count = min(_WIDE, rows - first)
            for i in range(size):
                for m in range(count):
                    y[i, m] = x[b, first + m, i] * sign[i]
            h = 1
            while h < size:
                for low in range(0, size, 2 * h):
                    for i in range(low, low + h):
                        _butterflies(y[i, :count], y[i + h, :count])
                h *= 2
            for m in range(count):
                for i in range(size):
                    out[b, first + m, i] = y[i, m] * factor
