"""Images [B, S, S], or [B, C, S, S], to and from sequences of square patches [B, T, C * P * P], T = (S / P)²."""

from __future__ import annotations

from torch import Tensor


def patchify(x: Tensor, patch: int) -> Tensor:
    """[B, (C,) S, S] -> [B, (S / patch)², C * patch²], row by row."""
    if x.dim() == 3:
        x = x.unsqueeze(1)
    batch, channels, side, _ = x.shape
    cells = side // patch
    x = x.reshape(batch, channels, cells, patch, cells, patch).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(batch, cells * cells, channels * patch * patch)


def unpatchify(x: Tensor, patch: int, channels: int = 1) -> Tensor:
    """The inverse of `patchify`; one channel gives [B, S, S]."""
    batch, tokens, _ = x.shape
    cells = int(tokens**0.5)
    x = x.reshape(batch, cells, cells, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    x = x.reshape(batch, channels, cells * patch, cells * patch)
    return x.squeeze(1) if channels == 1 else x
