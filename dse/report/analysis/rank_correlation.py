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


def spearman(a: FloatArray, b: FloatArray) -> FloatArray:
    """Row by row, of [..., n] and [..., n]; NaN where a row has no order."""
    return _cosine(_centered(_ranks(a)), _centered(_ranks(b)))


def kendall(a: FloatArray, b: FloatArray) -> FloatArray:
    """Row by row, tau-b."""
    return _cosine(_signs(_ranks(a)), _signs(_ranks(b)))


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
