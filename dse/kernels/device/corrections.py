"""New scales of blocks whose elements are rounded already: the twin of dse.numerics.techniques.corrections."""
# mypy: ignore-errors
# ruff: noqa: RUF005

import triton
import triton.language as tl

from dse.kernels.device.block_choice import block_total, pair, total_16
from dse.kernels.device.lattice import magnitude, round_scale, scale_lattice


@triton.jit
def eden_terms(x, y, decode, factor, ELEMENTS: tl.constexpr):
    """X^2 and X f(X) of every element, float64, from magnitudes of X and of f(X) = ``factor`` y.

    ``decode``: the scale; ELEMENTS: X and f(X) are divided by factor times scale first (``Eden.units``).
    """
    each = factor.to(tl.float64)
    x, y = x.to(tl.float64), y.to(tl.float64) * each
    if ELEMENTS:
        step = decode.to(tl.float64) * each
        inverse = tl.where(step > 0, 1.0 / step, 0.0)
        x, y = x * inverse, y * inverse
    return x * x, x * y


@triton.jit
def new_scale(s, above, below, threshold, low, high, emin, man):
    """SR(s above / below), s where ``below`` is 0; ``low`` to ``man``: of the scale format, see ``scale_lattice``."""
    c = tl.where(below == 0, 1.0, above / below)
    product = (s.to(tl.float64) * c).to(tl.float32)
    v, lattice = scale_lattice(product, low, high, emin, man)
    return round_scale(v, lattice, 1, 0.0, threshold)


@triton.jit
def eden_sums_16(
    x, y, scale, factor, GROUP: tl.constexpr, ROW: tl.constexpr, BLOCKS: tl.constexpr, TILES: tl.constexpr,
    JOINED: tl.constexpr, ELEMENTS: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Sums of ``eden_terms`` over 2^JOINED blocks side by side, at every group of 16: float64 [P] each.

    ``x``, ``y``: 16 tensors [P] each, y magnitudes.
    """
    above = ()
    below = ()
    for i in tl.static_range(16):
        terms = eden_terms(magnitude(x[i], INTERPRET), y[i], scale, factor, ELEMENTS)
        above = above + (terms[0],)
        below = below + (terms[1],)
    one = block_total(total_16(above), GROUP, ROW, BLOCKS, TILES)
    two = block_total(total_16(below), GROUP, ROW, BLOCKS, TILES)
    for s in tl.static_range(JOINED):
        one = pair(one, GROUP << (BLOCKS + s))
        two = pair(two, GROUP << (BLOCKS + s))
    return one, two
