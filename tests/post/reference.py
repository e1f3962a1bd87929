"""Post-training methods once more, in NumPy float64 and by other routes: explicit inverses, and rows of X in the place
of Gram matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
THRESHOLDS = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5])
E4M3 = np.array(sorted({m / 8 * 2.0**e for e in range(-6, 9) for m in range(8, 16)} | {m * 2.0**-9 for m in range(8)}))
E4M3 = E4M3[E4M3 <= 448]


def e2m1(u: Array) -> Array:
    """Nearest value, ties to the even code; saturates."""
    size = np.abs(u)
    code = np.searchsorted(THRESHOLDS, size, side="left")
    tie = np.isin(size, THRESHOLDS) & (code % 2 == 1)
    return np.sign(u) * E2M1[code + tie]


def e4m3(s: Array) -> Array:
    """Nearest non-negative value of E4M3, ties to the even code."""
    s = np.minimum(s, 448)
    high = np.clip(np.searchsorted(E4M3, s), 1, len(E4M3) - 1)
    low = high - 1
    below, above = s - E4M3[low], E4M3[high] - s
    up = (above < below) | ((above == below) & (high % 2 == 0))
    return E4M3[np.where(up, high, low)]


def blocks(w: Array, size: int) -> Array:
    return w.reshape(len(w), -1, size)


def spread(s: Array, size: int) -> Array:
    """One scale per element from one per block."""
    return np.repeat(s, size, axis=1)


def mxfp4_scales(w: Array) -> Array:
    """OCP's floor rule per 32, as one scale per element."""
    return spread(2.0 ** (np.floor(np.log2(np.abs(blocks(w, 32)).max(-1))) - 2), 32)


def nvfp4_scales(w: Array) -> Array:
    """Two levels per 16: E4M3 of amax / 6 under S_enc = 448 * 6 / amax(W)."""
    s_enc = 448 * 6 / np.abs(w).max()
    return spread(e4m3(np.abs(blocks(w, 16)).max(-1) * s_enc / 6) / s_enc, 16)


def rounded(w: Array, s: Array) -> Array:
    return e2m1(w / s) * s


def nearest(u: Array, grid: Array) -> Array:
    """Nearest of the magnitudes ``grid``, ties to the even place; saturates."""
    size = np.minimum(np.abs(u), grid[-1])
    high = np.clip(np.searchsorted(grid, size), 1, len(grid) - 1)
    below, above = size - grid[high - 1], grid[high] - size
    up = (above < below) | ((above == below) & (high % 2 == 0))
    return np.asarray(np.sign(u) * grid[np.where(up, high, high - 1)])


def floating_grid(exp: int, man: int) -> Array:
    """Magnitudes of ExMy with the bias 2^(E - 1) - 1 and no reserved code."""
    bias = 2 ** (exp - 1) - 1
    codes = range(2 ** (exp + man))
    parts = [(code >> man, code & (2**man - 1)) for code in codes]
    return np.array([(m / 2**man + (e > 0)) * 2.0 ** (max(e, 1) - bias) for e, m in parts])


def gptq(
    w: Array,
    x: Array,
    s: Array,
    damping: float,
    ordered: bool,
    quantize: Callable[[Array, Array], Array] = rounded,
) -> Array:
    """Optimal brain surgeon, a column at a time: the inverse loses a row and a column after each."""
    h = x.T @ x
    h += damping * np.mean(np.diag(h)) * np.eye(len(h))
    left = list(np.argsort(-np.diag(x.T @ x), kind="stable")) if ordered else list(range(len(h)))
    w, q, inverse = w.copy(), np.zeros_like(w), np.linalg.inv(h)
    for j in left:
        q[:, j] = quantize(w[:, j], s[:, j])
        w -= np.outer((w[:, j] - q[:, j]) / inverse[j, j], inverse[j])
        inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return q


def error_diffusion(w: Array, x: Array, s: Array) -> Array:
    """The error of the output is carried along as a vector over the samples."""
    q = np.zeros_like(w)
    for n in range(len(w)):
        u = np.zeros(len(x))
        for j in range(w.shape[1]):
            u += w[n, j] * x[:, j]
            q[n, j] = rounded(np.array(u @ x[:, j] / (x[:, j] @ x[:, j])), s[n, j])
            u -= q[n, j] * x[:, j]
    return q


def smoothquant(w: Array, x: Array, alpha: float) -> Array:
    return np.asarray(np.abs(x).max(0) ** alpha / np.abs(w).max(0) ** (1 - alpha))


def awq(w: Array, x: Array, quantize: Callable[[Array], Array], grid: int) -> Array:
    """The search on outputs themselves."""
    found = []
    for i in range(grid):
        s = np.abs(x).mean(0) ** (i / grid)
        s = s / np.sqrt(s.max() * s.min())
        off = x / s @ quantize(w * s).T - x @ w.T
        found.append(((off**2).sum(), i, s))
    return min(found, key=lambda one: one[:2])[2]


def shrunk_maxima(w: Array, size: int, candidates: int, step: float, exponent: float) -> Array:
    """The maxima [N, K / size] that the best unrounded scale belongs to."""
    amax = np.abs(blocks(w, size)).max(-1)
    best, least = amax.copy(), np.full(amax.shape, np.inf)
    for i in range(candidates):
        own = amax * (1 - step * i)
        error = (np.abs(blocks(w - rounded(w, spread(own / 6, size)), size)) ** exponent).sum(-1)
        best, least = np.where(error < least, own, best), np.minimum(error, least)
    return best


def weighted_nvfp4(w: Array, x: Array, low: int, high: int) -> Array:
    """NVFP4 scales, one per element, by the weighted error over E4M3 codes around the rounded one."""
    s_enc = 448 * 6 / np.abs(w).max()
    code = np.searchsorted(E4M3, e4m3(np.abs(blocks(w, 16)).max(-1) * s_enc / 6))
    h = (x**2).sum(0)
    best, least = np.zeros(w.shape), np.full(code.shape, np.inf)
    for k in sorted(range(low, high + 1), key=abs):
        s = spread(E4M3[np.clip(code + k, 1, len(E4M3) - 1)] / s_enc, 16)
        error = blocks(h * (w - rounded(w, s)) ** 2, 16).sum(-1)
        best = np.where(spread(error < least, 16), s, best)
        least = np.minimum(error, least)
    return best


def fitted_mxfp4(w: Array) -> Array:
    """256 scales, evenly spaced in the logarithm, from the smallest to the largest amax / 6 of a block of 32."""
    s = np.log2(np.abs(blocks(w, 32)).max(-1) / 6)
    low, high = s.min(), s.max()
    q = np.clip(np.round(255 * (s - low) / (high - low)), 0, 255)
    return spread(2.0 ** ((high - low) / 255 * q + low), 32)


def by_distance(u: Array, values: Array) -> Array:
    """The nearest of all values [..., n], the innermost of two at equal distance if its place outward is even."""
    order = np.argsort(np.abs(values), kind="stable")
    off = np.abs(u[..., None] - values[order])
    place = np.arange(len(values)) // 2
    return np.asarray(values[order][np.lexsort((place % 2 * np.ones_like(off), off), axis=-1)[..., 0]])


def mant(w: Array, size: int, coefficients: list[int], given: bool, h: Array) -> Array:
    """Scale and number of the grid [N, K, 2] of M-ANT's search, a group at a time; INT4 has the number -1."""
    found = np.zeros((*w.shape, 2))
    for n in range(len(w)):
        for first in range(0, w.shape[1], size):
            group, own = w[n, first : first + size], h[first : first + size]
            tried = []
            for a in ([-1] if given else []) + coefficients:
                s = np.abs(group).max() / mant_values(a).max()
                q = by_distance(group / s, mant_values(a)) * s
                tried.append(((own * (q - group) ** 2).sum(), s, a))
            found[n, first : first + size] = min(tried, key=lambda one: one[0])[1:]
    return found


def mant_values(a: float) -> Array:
    i = np.arange(8)
    own = i if a < 0 else a * i + 2.0**i
    return np.unique(np.concatenate([-own, own])).astype(float)


def mant_rounded(w: Array, kinds: Array) -> Array:
    """Weights [...] under scales and grids [..., 2]."""
    q = np.zeros_like(w)
    for a in np.unique(kinds[..., 1]):
        mask = kinds[..., 1] == a
        s = kinds[..., 0][mask]
        q[mask] = by_distance(w[mask] / s, mant_values(a)) * s
    return q


def microscopiq(
    w: Array, x: Array, size: int, sigmas: float, micro: int, tops: tuple[int, int], damping: float
) -> tuple[Array, int]:
    """Scale and kind [N, K, 2] (0 inlier, 1 outlier, 2 pruned), and the number of micro-blocks with outliers.

    ``tops``: exponents of the largest powers of two of the inliers' and the outliers' format.
    """
    h = x.T @ x
    inverse = np.diag(np.linalg.inv(h + damping * np.mean(np.diag(h)) * np.eye(len(h))))
    kinds, count = np.zeros((*w.shape, 2)), 0
    for n in range(len(w)):
        for first in range(0, w.shape[1], size):
            block = np.arange(first, min(first + size, w.shape[1]))
            mean, deviation = w[n, block].mean(), w[n, block].std()
            for start in range(first, block[-1] + 1, micro):
                places = [j for j in range(start, start + micro) if j in block]
                far = [j for j in places if abs(w[n, j] - mean) > sigmas * deviation]
                far = sorted(far, key=lambda j: -abs(w[n, j]))[: len(places) // 2]
                near = sorted((j for j in places if j not in far), key=lambda j: w[n, j] ** 2 / inverse[j])
                kinds[n, far, 1], kinds[n, near[: len(far)], 1] = 1, 2
                if far:
                    kinds[n, far, 0] = 2.0 ** (np.floor(np.log2(np.abs(w[n, far]).max())) - tops[1])
                    count += 1
            inliers = block[kinds[n, block, 1] != 1]
            kinds[n, inliers, 0] = 2.0 ** (np.floor(np.log2(np.abs(w[n, inliers]).max())) - tops[0])
    return kinds, count


def microscopiq_rounded(w: Array, kinds: Array, grids: tuple[Array, Array]) -> Array:
    s, kind = kinds[..., 0], kinds[..., 1]
    both = [nearest(w / s, grid) * s for grid in grids]
    return np.select([kind == 0, kind == 1], both, 0.0)


def hadamard(size: int) -> Array:
    """Sylvester's matrix, orthonormal."""
    h = np.ones((1, 1))
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    return h / np.sqrt(size)


def low_rank(e: Array, rank: int) -> Array:
    """The best approximation of a rank, from the eigenvectors of E^T E."""
    _, vectors = np.linalg.eigh(e.T @ e)
    v = vectors[:, -rank:]
    return np.asarray(e @ v @ v.T)


def floating(x: Array, bias: Array, exp: int, man: int) -> Array:
    """LLM-FP4's eq. 4 to 6: a format without infinities under a real exponent bias."""
    largest = (2 - 2.0**-man) * 2.0 ** (2**exp - 1 - bias)
    x = np.clip(x, -largest, largest)
    with np.errstate(divide="ignore"):
        step = 2.0 ** (np.maximum(np.floor(np.log2(np.abs(x)) + bias), 1) - man - bias)
    return step * np.round(x / step)


def bias_of(largest: Array, exp: int, man: int) -> Array:
    """The bias under which a format ends at a magnitude."""
    return np.asarray(2**exp - np.log2(largest) + np.log2(2 - 2.0**-man) - 1)


def fpq(
    w: Array,
    x: Array,
    rounds: int,
    clips: Array,
    bits: tuple[int, int],
    start: tuple[int, int],
    shifts: bool,
    peaks: Array,
) -> tuple[Array, Array]:
    """f(W) and f(X), every candidate judged by the outputs themselves, for rows x of X.

    ``start``: M of W's and X's first formats; ``peaks``: the largest magnitude of each feature of all rows.
    """
    y = x @ w.T
    kinds = [[(b - 1 - m, m) for m in (range(b - 1) if b < 8 else range(2, 7))] for b in bits]
    first = [(b - 1 - m, m) for b, m in zip(bits, start, strict=True)]
    top = np.abs(w).max(1, keepdims=True)
    exponents = np.round(np.log2(peaks.max() / peaks)) if shifts else np.zeros(x.shape[1])
    c = 2.0 ** np.clip(exponents, 0, 2 ** first[1][0] - 1)
    fw = floating(w, bias_of(top, *first[0]), *first[0])
    fx = floating(x * c, bias_of(peaks.max(), *first[1]), *first[1]) / c
    for _ in range(rounds):
        lost = ((fx @ fw.T - y) ** 2).sum(0)
        for kind in sorted(kinds[0], key=lambda one: -one[1]):
            own, least = np.zeros_like(w), np.full(len(w), np.inf)
            for clip in clips:
                f = floating(w, bias_of(top * clip, *kind), *kind)
                off = ((fx @ f.T - y) ** 2).sum(0)
                own, least = np.where((off < least)[:, None], f, own), np.minimum(off, least)
            if least.sum() < lost.sum():
                fw, lost = own, least
        whole = ((fx @ fw.T - y) ** 2).sum()
        for kind in kinds[1]:
            for clip in clips:
                f = floating(x * c, bias_of((peaks * c).max() * clip, *kind), *kind) / c
                if (off := ((f @ fw.T - y) ** 2).sum()) < whole:
                    fx, whole = f, off
    return fw, fx


def adaround(
    w: Array, x: Array, s: Array, grid: Array, iterations: int, rate: float, weight: float, aware: bool
) -> Array:
    """The learned rounding, with neighbors looked up in the grid, rows of X, and every element by itself."""
    whole = np.concatenate([-grid[:0:-1], grid])
    place = np.clip(np.searchsorted(whole, w / s, side="right") - 1, 0, len(whole) - 2)
    low, high = whole[place] * s, whole[place + 1] * s
    ends = np.abs(w / s) > grid[-1] * (1 - 1e-6)
    low, high = np.where(ends, w, low), np.where(ends, w, high)
    gap = high - low
    unit = np.where(ends, 1, gap if aware else 1)
    share = (w - low) / np.where(ends, 1, gap)
    v, first, second = unit * np.log((share + 0.1) / (1.1 - share)), 0.0, 0.0
    for i in range(iterations):
        sigmoid = 1 / (1 + np.exp(-v / unit))
        h = np.clip(1.2 * sigmoid - 0.1, 0, 1)
        errors = x @ (low + h * gap - w).T
        g = 2 * np.einsum("mn,mk->nk", errors, x) / len(x) * gap
        progress = i / iterations
        if progress >= 0.2:
            b = 20 - 18 * (progress - 0.2) / 0.8
            g = g - weight * b * 2 * np.sign(2 * h - 1) * np.abs(2 * h - 1) ** (b - 1)
        g = np.where((h > 0) & (h < 1), g * 1.2 * sigmoid * (1 - sigmoid) / unit, 0.0)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        v = v - rate * (first / (1 - 0.9 ** (i + 1))) / (np.sqrt(second / (1 - 0.999 ** (i + 1))) + 1e-8)
    return np.where(v >= 0, high, low)
