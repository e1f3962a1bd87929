"""The loss law: a language model's loss by its parameters N and training tokens D, and what a recipe makes of both.

    L(N, D) = (A / (N effN)^a + B / (D effD)^b)^g + E

The unquantized trials give A, a, B, b, E and g, with effN = effD = 1; a recipe then has its own effN and effD: it is
worth a model of effN N parameters that has seen effD D tokens. N counts all parameters but embedding and head. Source:
Quartet (arXiv 2505.14669), section 3; the fit, Huber's loss on the logarithm of the loss from several starts, is that
of Chinchilla (arXiv 2203.15556), appendix D.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.report.analysis.rank_correlation import FloatArray

FREE = 6
"""Parameters of the law that unquantized trials decide."""
HUBER = 1e-3
"""Of the loss' logarithm: beyond it a residual counts linearly."""
_STARTS = tuple(product((0.3, 0.6), (0.3, 1.0), (0.5,)))
"""Exponents a = b, exponent g, and E as a share of the least loss."""
_SHARES = ((0.9, 0.9), (0.5, 0.9), (0.9, 0.5))
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class LossLaw:
    """The law's constants, of losses in nats per token."""

    A: float
    a: float
    B: float
    b: float
    E: float
    g: float

    def loss(self, parameters: FloatArray | float, tokens: FloatArray | float) -> FloatArray:
        """L(N, D), elementwise."""
        import numpy as np

        n, d = np.asarray(parameters, float), np.asarray(tokens, float)
        found: FloatArray = (self.A * n**-self.a + self.B * d**-self.b) ** self.g + self.E
        return found

    def slopes(self, parameters: FloatArray, tokens: FloatArray) -> FloatArray:
        """d log L / d log N and d log L / d log D, [points, 2]."""
        import numpy as np

        terms = np.stack([self.A * parameters**-self.a, self.B * tokens**-self.b], axis=-1)
        whole = terms.sum(-1, keepdims=True)
        power = whole**self.g
        found: FloatArray = -self.g * power / whole * terms * [self.a, self.b] / (power + self.E)
        return found


@dataclass(frozen=True)
class EffectiveShares:
    """What a recipe leaves of a model's ``parameters`` (effN) and of its ``tokens`` (effD)."""

    parameters: float
    tokens: float

    def excess(self, law: LossLaw, parameters: FloatArray | float, tokens: FloatArray | float) -> FloatArray:
        """By how much the recipe's loss is above the unquantized one, as a share of it."""
        effective = law.loss(parameters * self.parameters, tokens * self.tokens)
        found: FloatArray = effective / law.loss(parameters, tokens) - 1
        return found


def fit_law(parameters: FloatArray, tokens: FloatArray, loss: FloatArray, start: LossLaw | None = None) -> LossLaw:
    """The law of unquantized losses [points], in nats; ``start``: where to begin, in place of several starts.

    Raises ValueError for fewer points than the law has constants.
    """
    import numpy as np
    from scipy.optimize import least_squares

    if len(loss) < FREE:
        raise ValueError(f"{len(loss)} points cannot decide {FREE} constants")
    middle = np.log(parameters).mean(), np.log(tokens).mean()
    x, z, y = np.log(parameters) - middle[0], np.log(tokens) - middle[1], np.log(loss)
    least = float(loss.min())

    def parts(at: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        u, v = np.exp(at[0] - at[2] * x), np.exp(at[1] - at[3] * z)
        power = (u + v) ** at[5]
        return u, v, power, power + at[4]

    def residual(at: FloatArray) -> FloatArray:
        found: FloatArray = np.log(parts(at)[3]) - y
        return found

    def jacobian(at: FloatArray) -> FloatArray:
        u, v, power, whole = parts(at)
        by_sum = at[5] * power / (u + v)
        by_g = power * np.log(u + v)
        columns = [by_sum * u, by_sum * v, -by_sum * u * x, -by_sum * v * z, np.ones_like(u), by_g]
        found: FloatArray = np.stack(columns, axis=1) / whole[:, None]
        return found

    lowest, highest = [-60.0, -60.0, 0.01, 0.01, 0.0, 0.05], [60.0, 60.0, 3.0, 3.0, least, 3.0]
    if start is None:
        begins = [_begin(exponent, g, share * least, float(np.exp(y.mean()))) for exponent, g, share in _STARTS]
    else:
        scales = math.log(start.A) - start.a * middle[0], math.log(start.B) - start.b * middle[1]
        begins = [[*scales, start.a, start.b, start.E, start.g]]
    found = min(
        (
            least_squares(
                residual, np.clip(begin, np.add(lowest, 1e-9), np.subtract(highest, 1e-9)), jacobian,
                bounds=(lowest, highest), x_scale=[1, 1, 0.1, 0.1, 0.1, 0.1], loss="huber", f_scale=HUBER, max_nfev=400,
            )
            for begin in begins
        ),
        key=lambda one: float(one.cost),
    )  # fmt: skip
    log_a, log_b, a, b, e, g = (float(value) for value in found.x)
    return LossLaw(math.exp(log_a + a * middle[0]), a, math.exp(log_b + b * middle[1]), b, e, g)


def fit_shares(
    law: LossLaw,
    parameters: FloatArray,
    tokens: FloatArray,
    excess: FloatArray,
    most: float = 1.0,
    start: EffectiveShares | None = None,
) -> EffectiveShares:
    """A recipe's shares, each at most ``most``, from log(its loss / the unquantized loss) [points].

    The ratio is compared with the law's, so that what the law misses at a point, and what trials of equal seeds share,
    drops out.
    """
    import numpy as np
    from scipy.optimize import least_squares

    base = law.loss(parameters, tokens)
    lowest, highest = math.log(_LEAST_SHARE), math.log(most)

    def residual(at: FloatArray) -> FloatArray:
        found: FloatArray = np.log(law.loss(parameters * np.exp(at[0]), tokens * np.exp(at[1])) / base) - excess
        return found

    def jacobian(at: FloatArray) -> FloatArray:
        return law.slopes(parameters * np.exp(at[0]), tokens * np.exp(at[1]))

    begins = _SHARES if start is None else ((start.parameters, start.tokens),)
    found = min(
        (
            least_squares(
                residual, np.clip(np.log(begin), lowest + 1e-3, highest - 1e-3), jacobian,
                bounds=([lowest] * 2, [highest] * 2), loss="huber", f_scale=HUBER,
            )
            for begin in begins
        ),
        key=lambda one: float(one.cost),
    )  # fmt: skip
    return EffectiveShares(*(float(min(most, value)) for value in np.exp(found.x)))


def _begin(exponent: float, g: float, e: float, loss: float) -> list[float]:
    """Both terms alike in the middle of the points, where the law gives ``loss``."""
    half = math.log(loss - e) / g - math.log(2)
    return [half, half, exponent, exponent, e, g]


__all__ = ["FREE", "HUBER", "EffectiveShares", "LossLaw", "fit_law", "fit_shares"]
