"""The inverse of a layer's damped Hessian: what methods that make up for rounding errors know about X."""

from __future__ import annotations

import torch
from torch import Tensor

from dse.errors import CalibrationError


def damped_inverse(gram: Tensor, damping: float, method: str, option: str) -> Tensor:
    """(X^T X + d I)^-1 [K, K], d = ``damping`` times the mean of the diagonal of X^T X, from X^T X, float64.

    A feature that was never different from zero has the mean in the diagonal. Raises CalibrationError, which tells the
    ``method`` and names the ``option`` that holds the damping, where the matrix is not positive definite.
    """
    damped, diagonal = gram.clone(), gram.diagonal()
    seen = diagonal > 0
    mean = diagonal[seen].mean() if seen.any() else diagonal.new_ones(())
    damped.diagonal().copy_(torch.where(seen, diagonal, mean) + damping * mean)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed != 0:
        raise not_positive_definite(damping, method, option)
    inverse: Tensor = torch.cholesky_inverse(lower)
    return inverse


def not_positive_definite(damping: float, method: str, option: str) -> CalibrationError:
    """The error that says so, with its remedy."""
    return CalibrationError(
        f"{method}: X^T X is not positive definite with damping {damping:g}; set a larger {option} "
        f"({max(0.01, 10 * damping):g}), or calibrate with more batches"
    )


__all__ = ["damped_inverse", "not_positive_definite"]
