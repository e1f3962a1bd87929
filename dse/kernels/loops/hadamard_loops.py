"""The fast Walsh-Hadamard transform: the twin of ``dse.numerics.techniques.rotations.hadamard.transform``."""
# mypy: ignore-errors

import numpy as np

from dse.kernels.loops.compile import inner, loop

_CHUNK = 2048
"""Elements that are transformed together: they stay in the fastest cache."""


@inner
def _signed(x, sign, y):
    for m in range(x.shape[0]):
        for i in range(sign.shape[0]):
            y[m * sign.shape[0] + i] = x[m, i] * sign[i]


@inner
def _neighbors(y, z):
    """z: y after the butterflies of elements 1 apart."""
    for p in range(y.shape[0] // 2):
        a, b = y[2 * p], y[2 * p + 1]
        z[2 * p] = a + b
        z[2 * p + 1] = a - b


@inner
def _butterflies(y, z, h):
    """The same h apart."""
    for first in range(0, y.shape[0], 2 * h):
        for k in range(first, first + h):
            a, b = y[k], y[k + h]
            z[k] = a + b
            z[k + h] = a - b


@inner
def _fours(y, z):
    """The same 1 and then 2 apart."""
    for p in range(y.shape[0] // 4):
        a, b, c, d = y[4 * p], y[4 * p + 1], y[4 * p + 2], y[4 * p + 3]
        e, f, g, h = a + b, a - b, c + d, c - d
        z[4 * p] = e + g
        z[4 * p + 1] = f + h
        z[4 * p + 2] = e - g
        z[4 * p + 3] = f - h


@inner
def _sixteens(y, z):
    """The same 4 and then 8 apart."""
    for p in range(y.shape[0] // 16):
        for k in range(16 * p, 16 * p + 4):
            a, b, c, d = y[k], y[k + 4], y[k + 8], y[k + 12]
            e, f, g, h = a + b, a - b, c + d, c - d
            z[k] = e + g
            z[k + 4] = f + h
            z[k + 8] = e - g
            z[k + 12] = f - h


@inner
def _scaled(y, factor, out):
    for m in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[m, i] = y[m * out.shape[1] + i] * factor


@loop("void(float32[:, :, ::1], float32[:, ::1], float32[:, :, ::1], float32)")
def transform(x, signs, out, factor):
    """x [B, M, size] times diag(signs) H ``factor``; ``signs`` [B, size]."""
    members, rows, size = x.shape
    at_once = max(1, _CHUNK // size)
    buffer, other = np.empty(at_once * size, np.float32), np.empty(at_once * size, np.float32)
    for b in range(members):
        for first in range(0, rows, at_once):
            last = min(first + at_once, rows)
            y, z, h = buffer[: (last - first) * size], other[: (last - first) * size], 2
            _signed(x[b, first:last], signs[b], y)
            if size == 2:
                _neighbors(y, z)
            else:
                _fours(y, z)
                h = 4
            y, z = z, y
            if size >= 16:
                _sixteens(y, z)
                y, z = z, y
                h = 16
            while h < size:
                _butterflies(y, z, h)
                y, z = z, y
                h *= 2
            _scaled(y, factor, out[b, first:last])
