"""Blocks of elements: their maxima, their scales, and the elements rounded and decoded.

Operands are [B, R, K], B independent ones; blocks are ``tile`` rows by ``block`` columns, the last ones of an axis may
be cut short; what there is one of per block is [B, R/t, K/b]. Twins: ``dse.numerics.grid``, ``.techniques.rounding``,
``.techniques.conventions``.
"""
# mypy: ignore-errors

import numpy as np
from numba import int32

from dse.kernels.loops import block_options as at
from dse.kernels.loops.compile import bits_of, float_of, floats, inner, integers, loop
from dse.kernels.loops.philox_loops import draw_row

_EXPONENT, _MAGNITUDE, _SIGN = np.int32(0x7F800000), np.int32(0x7FFFFFFF), np.int32(-0x80000000)
_WHOLE = np.float32(2.0**23)
"""From here on every float32 is an integer."""
_LARGEST, _ONE, _ZERO, _NAN, _INFINITY = (np.float32(x) for x in (3.4028234663852886e38, 1, 0, np.nan, np.inf))


@inner
def _step(u, least, unit):
    """The step of the grid at u: ``unit`` times the power of two below it, whose bits are ``least`` or more."""
    return float_of(max(bits_of(u) & _EXPONENT, least)) * unit


@inner
def _nearest(v):
    """The nearest integer to v >= 0, a tie to the even one."""
    return (v + _WHOLE) - _WHOLE if v < _WHOLE else v


@inner
def _by_threshold(v, offset, threshold):
    """floor(v + offset), one more where the fraction reaches the threshold."""
    w = v + offset
    q = np.floor(w)
    return q + _ONE if w - q >= threshold else q


@inner
def _set(out, value):
    for k in range(out.shape[0]):
        out[k] = value


@inner
def _larger(x, top):
    for k in range(x.shape[0]):
        top[k] = max(top[k], bits_of(x[k]) & _MAGNITUDE)


@loop(f"void({', '.join(['int64'] * 8)})")
def peaks(x_at, z_at, g_at, members, rows, columns, tile, block):
    """z: the largest magnitude of each block of x; NaN, whose bits are the largest, where there is one.

    g: the same of each operand, unless its address is 0.
    """
    down, along = (rows + tile - 1) // tile, (columns + block - 1) // block
    x, z = floats(x_at, (members, rows, columns)), floats(z_at, (members, down, along))
    g, top = floats(g_at, members), np.empty(columns, np.int32)
    for b in range(members):
        largest = int32(0)
        for i in range(down):
            _set(top, np.int32(0))
            for r in range(i * tile, min(i * tile + tile, rows)):
                _larger(x[b, r], top)
            for j in range(along):
                part, most = top[j * block : min(j * block + block, columns)], int32(0)
                for k in range(part.shape[0]):
                    most = max(most, part[k])
                z[b, i, j] = float_of(most)
                largest = max(largest, most)
        if g_at:
            g[b] = float_of(largest)


@inner
def _finite(x):
    return _LARGEST if x > _LARGEST else x


@inner
def _level(g, encodes, f):
    """S_enc and alpha of the tensor scale whose reference is g; by ``conventions.Encode`` both are alpha."""
    if encodes:
        g = _ONE if g == _ZERO else g
        alpha = (g if g < _INFINITY else _NAN) / f[at.DIVISOR]
        alpha = _ONE if alpha == _ZERO else alpha
        return alpha, alpha
    s_enc = _finite(f[at.TARGET] / g)
    s_enc = _ONE if g == _ZERO or s_enc == _ZERO else s_enc
    s_enc = s_enc if g < _INFINITY else _NAN
    return s_enc, _ONE / s_enc


@inner
def _scales(z, s_enc, s, encodes, f):
    """What the scales of blocks are rounded from."""
    c, inverse_c, base, ratio = f[at.C], f[at.INVERSE_C], f[at.BASE], f[at.RATIO]
    if encodes:
        for j in range(z.shape[0]):
            s[j] = _finite(c / (_ONE if z[j] == _ZERO else z[j]) * s_enc[j])
    elif base == _ZERO:
        for j in range(z.shape[0]):
            s[j] = z[j] * (s_enc[j] * inverse_c)
    else:
        for j in range(z.shape[0]):
            s[j] = z[j] / base * s_enc[j] * ratio


@inner
def _rounded_scales(s, s_q, f, nearest):
    """On the grid of the scale format, or what stands for a zero."""
    low, high, least, unit = f[at.SCALE_LOW], f[at.SCALE_HIGH], bits_of(f[at.SCALE_LEAST]), f[at.SCALE_UNIT]
    offset, threshold, zero = f[at.SCALE_OFFSET], f[at.SCALE_THRESHOLD], f[at.SCALE_ZERO]
    if nearest:
        for j in range(s.shape[0]):
            u = low if s[j] < low else s[j]
            u = high if u > high else u
            step = _step(u, least, unit)
            q = _nearest(u / step) * step
            s_q[j] = zero if q == _ZERO else q
    else:
        for j in range(s.shape[0]):
            u = low if s[j] < low else s[j]
            u = high if u > high else u
            step = _step(u, least, unit)
            q = _by_threshold(u / step, offset, threshold) * step
            s_q[j] = zero if q == _ZERO else q


@inner
def _factors(z, used, s_q, alpha, encode, decode, w):
    """Encode and decode factors of blocks; ``used``: the scales that divide the elements."""
    if w[at.ENCODES]:
        for j in range(z.shape[0]):
            encode[j] = _finite(used[j] / alpha[j])
            decode[j] = _ONE / s_q[j]
    else:
        for j in range(z.shape[0]):
            encode[j] = _finite(_ONE / (used[j] * alpha[j]))
            decode[j] = s_q[j]
    if w[at.HIDES]:
        for j in range(z.shape[0]):
            decode[j] += z[j] - z[j]


@inner
def _empty(count):
    return np.empty(count, np.float32)


@inner
def _spread(out, values, block):
    """Each of the values ``block`` times."""
    if block % 16 == 0:
        for j in range(values.shape[0]):
            for part in range(block // 16):
                for k in range(16):
                    out[j * block + 16 * part + k] = values[j]
    else:
        for j in range(values.shape[0]):
            for k in range(block):
                out[j * block + k] = values[j]


@inner
def _random_thresholds(out, lanes, drop, unit, top):
    """1 - (2 r + 1) / 2^(n+1) with r the first n bits of each lane."""
    for k in range(out.shape[0]):
        out[k] = top - np.float32(lanes[k] >> drop) * unit


@inner
def _nearest_row(x, e, d, o, y, f):
    gain, undo, high, least, unit = f[at.GAIN], f[at.UNDO], f[at.HIGH], bits_of(f[at.LEAST]), f[at.UNIT]
    for k in range(x.shape[0]):
        u = abs(x[k] * e[k] * gain)
        u = high if u > high else u
        step = _step(u, least, unit)
        q = _nearest(u / step) * step
        y[k] = float_of(bits_of(q * d[k] * undo * o[k]) | (bits_of(x[k]) & _SIGN))


@inner
def _threshold_row(x, e, d, o, t, y, f):
    gain, undo, high, least, unit, offset = (
        f[at.GAIN],
        f[at.UNDO],
        f[at.HIGH],
        bits_of(f[at.LEAST]),
        f[at.UNIT],
        f[at.OFFSET],
    )
    for k in range(x.shape[0]):
        u = abs(x[k] * e[k] * gain)
        u = high if u > high else u
        step = _step(u, least, unit)
        q = _by_threshold(u / step, offset, t[k]) * step
        y[k] = float_of(bits_of(q * d[k] * undo * o[k]) | (bits_of(x[k]) & _SIGN))


@loop(f"void({', '.join(['float32[::1]', 'int64[::1]', *['int64'] * 20])})")
def quantize(
    f, w, x_at, y_at, z_at, g_at, alpha_at, encode_at, decode_at, members, rows, columns, tile, block, g_rows,
    g_columns, clock_at, share, spacing, purpose, layer, folds,
):  # fmt: skip
    """y: Q(X e) d [B, R, K], with e and d from Z of each block.

    ``f`` and ``w``: the options in ``block_options``. ``g``, ``alpha``: the tensor scale's reference and 1 / S_enc, one
    per operand or per block (``g_rows`` by ``g_columns``); ``folds``: y is multiplied by alpha. ``encode``, ``decode``:
    the factors, where they are given, else their address is 0, as g's is. ``clock`` [B / share, 2]: of a member, whose
    ``share`` operands draw ``spacing`` rows each.
    """
    down, along = (rows + tile - 1) // tile, (columns + block - 1) // block
    x, y = floats(x_at, (members, rows, columns)), floats(y_at, (members, rows, columns))
    z, clock = floats(z_at, (members, down * along)), integers(clock_at, (members, 2))
    g, alpha = floats(g_at, (members, g_rows, g_columns)), floats(alpha_at, (members, g_rows, g_columns))
    given_e, given_d = floats(encode_at, (members, down * along)), floats(decode_at, (members, down * along))
    width, blocks, n = along * block, down * along, w[at.RANDOM_BITS]
    e, d, t, o = _empty(width), _empty(width), _empty(width), np.ones(width, np.float32)
    s, s_q, encode, decode = _empty(blocks), _empty(blocks), _empty(blocks), _empty(blocks)
    s_enc, level = np.ones(blocks, np.float32), np.ones(blocks, np.float32)
    _set(t, f[at.THRESHOLD])
    calls = (width + 15) // 16 * (1 if n <= 8 else 2 if n <= 16 else 4)
    words = np.empty(4 * calls if n > 0 else 0, np.uint32)
    unit, top = np.float32(2.0**-n), np.float32(1 - 2.0 ** -(n + 1))
    for b in range(members):
        if g_at:
            for i in range(g_rows):
                for j in range(g_columns):
                    if not encode_at:
                        s_enc[i * along + j], alpha[b, i, j] = _level(g[b, i, j], w[at.ENCODES], f)
                    level[i * along + j] = alpha[b, i, j]
            if g_rows * g_columns == 1:
                _set(s_enc, s_enc[0])
                _set(level, level[0])
        if encode_at:
            for j in range(blocks):
                encode[j], decode[j] = given_e[b, j], given_d[b, j]
        else:
            _scales(z[b], s_enc, s, w[at.ENCODES], f)
            _rounded_scales(s, s_q, f, w[at.SCALE_NEAREST])
            _factors(z[b], s if w[at.UNQUANTIZED] else s_q, s_q, level, encode, decode, w)
        for j in range(blocks):
            encode[j] = _finite(encode[j] * f[at.OVERALL])
        for i in range(down):
            part = slice(i * along, i * along + along)
            _spread(e, encode[part], block)
            _spread(d, decode[part], block)
            if folds:
                _spread(o, level[part], block)
            for r in range(i * tile, min(i * tile + tile, rows)):
                if n > 0:
                    draw_row(words, (b % share * spacing + r) * calls, purpose, layer, clock[b // share])
                    if n <= 8:
                        _random_thresholds(t[:columns], words.view(np.uint8), 8 - n, unit, top)
                    elif n <= 16:
                        _random_thresholds(t[:columns], words.view(np.uint16), 16 - n, unit, top)
                    else:
                        _random_thresholds(t[:columns], words, 32 - n, unit, top)
                if w[at.NEAREST]:
                    _nearest_row(x[b, r], e, d, o, y[b, r], f)
                else:
                    _threshold_row(x[b, r], e, d, o, t, y[b, r], f)
