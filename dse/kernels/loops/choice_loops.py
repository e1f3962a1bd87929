"""The better of two candidates for each block: the twin of ``dse.numerics.techniques.choices.base.closer``."""
# mypy: ignore-errors

import numpy as np

from dse.kernels.loops.compile import floats, inner, loop

_SQUARES, _MAGNITUDES = 0, 1
"""Numbers of the error measures 'mse' and 'mae'; 2: 'max'."""


@inner
def _tree(values, count):
    """The sum of the first ``count`` values in the order of ``dse.numerics.tree``; overwrites them."""
    while count > 1:
        if count % 2:
            values[count] = 0.0
        count = (count + 1) // 2
        for i in range(count):
            values[i] = values[2 * i] + values[2 * i + 1]
    return values[0]


@inner
def _errors(best, other, x, factor, error, one, two):
    """Of each element of a row what is compared: two numbers whose sums or maxima over the block matter."""
    for k in range(x.shape[0]):
        y, y0, x_k = np.float64(other[k]), np.float64(best[k]), np.float64(x[k])
        if error == _SQUARES:
            one[k], two[k] = y * y - y0 * y0, (y - y0) * x_k
        else:
            one[k], two[k] = abs(factor * y - x_k), abs(factor * y0 - x_k)
            if error == _MAGNITUDES:
                one[k] -= two[k]


@inner
def _maximum(values, count):
    """The largest of the first ``count`` values, NaN if one is."""
    most = values[0]
    for k in range(1, count):
        if not values[k] <= most:
            most = values[k] if most == most else most
    return most


@loop(f"void({', '.join(['int64'] * 12)})")
def keep_closer(best_at, other_at, x_at, factor_at, members, rows, columns, tile, block, f_rows, f_columns, error):
    """``best`` with the blocks of ``other`` that have a strictly smaller error against x, all [B, R, K].

    ``factor``: on both, one per operand or per block (``f_rows`` by ``f_columns``).
    """
    shape = members, rows, columns
    best, other, x = floats(best_at, shape), floats(other_at, shape), floats(x_at, shape)
    factor = floats(factor_at, (members, f_rows, f_columns))
    one, two, row_one, row_two = np.empty(block + 1), np.empty(block + 1), np.empty(tile + 1), np.empty(tile + 1)
    for b in range(members):
        for i in range((rows + tile - 1) // tile):
            r0, r1 = i * tile, min(i * tile + tile, rows)
            for j in range((columns + block - 1) // block):
                part = slice(j * block, min(j * block + block, columns))
                count = part.stop - part.start
                f = np.float64(factor[b, min(i, f_rows - 1), min(j, f_columns - 1)])
                for r in range(r0, r1):
                    _errors(best[b, r, part], other[b, r, part], x[b, r, part], f, error, one, two)
                    if error <= _MAGNITUDES:
                        row_one[r - r0] = _tree(one, count)
                        row_two[r - r0] = _tree(two, count) if error == _SQUARES else 0.0
                    else:
                        row_one[r - r0], row_two[r - r0] = _maximum(one, count), _maximum(two, count)
                if error == _SQUARES:
                    closer = f * _tree(row_one, r1 - r0) < 2 * _tree(row_two, r1 - r0)
                elif error == _MAGNITUDES:
                    closer = _tree(row_one, r1 - r0) < 0
                else:
                    closer = _maximum(row_one, r1 - r0) < _maximum(row_two, r1 - r0)
                if closer:
                    for r in range(r0, r1):
                        for k in range(part.start, part.stop):
                            best[b, r, k] = other[b, r, k]
