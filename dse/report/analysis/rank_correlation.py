"""Rank correlations of many samples at once, with ties and infinite values.

Spearman's rho: Pearson's correlation of average ranks. Kendall's tau-b: concordant minus discordant pairs, over the
geometric mean of the pairs that are not tied in either. Source: Kendall, Rank Correlation Methods (1948), ch. 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

_MOST_SIGNS = 5_000_000
"""Pairs, over all rows, up to which each is compared; more are counted by sorting (scipy's, O(n log n) a row)."""


def spearman(a: FloatArray, b: FloatArray) -> FloatArray:
    """Row by row, of [..., n] and [..., n]; NaN where a row has no order."""
    return _cosine(_centered(_ranks(a)), _centered(_ranks(b)))


def kendall(a: FloatArray, b: FloatArray) -> FloatArray:
    """Row by row, tau-b."""
    import numpy as np

    count = a.shape[-1]
    if count * (count - 1) // 2 * max(1, a.size // max(1, count)) <= _MOST_SIGNS:
        return _cosine(_signs(_ranks(a)), _signs(_ranks(b)))
    from scipy.stats import kendalltau

    rows = zip(*(part.reshape(-1, count) for part in np.broadcast_arrays(a, b)), strict=True)
    return np.array([kendalltau(x, y).statistic for x, y in rows]).reshape(a.shape[:-1])


def _ranks(values: FloatArray) -> FloatArray:
    from scipy.stats import rankdata

    ranks: FloatArray = rankdata(values, axis=-1)
    return ranks


def _centered(ranks: FloatArray) -> FloatArray:
    centered: FloatArray = ranks - ranks.mean(-1, keepdims=True)
    return centered


def _signs(ranks: FloatArray) -> FloatArray:
    import numpy as np

    i, j = np.triu_indices(ranks.shape[-1], 1)
    signs: FloatArray = np.sign(ranks[..., i] - ranks[..., j])
    return signs


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return found


__all__ = ["kendall", "spearman"]
