"""Images [B, S, S] to and from sequences of square patches [B, T, P * P], T = (S / P)²."""

from __future__ import annotations

from torch import Tensor


def patchify(x: Tensor, patch: int) -> Tensor:
    """[B, S, S] -> [B, (S / patch)², patch²], row by row."""
    batch, side, _ = x.shape
    cells = side // patch
    x = x.reshape(batch, cells, patch, cells, patch).transpose(2, 3)
    return x.reshape(batch, cells * cells, patch * patch)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`."""
    batch, tokens, _ = x.shape
    cells = int(tokens**0.5)
    x = x.reshape(batch, cells, cells, patch, patch).transpose(2, 3)
    return x.reshape(batch, cells * patch, cells * patch)
