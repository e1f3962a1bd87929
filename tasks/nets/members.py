"""Helpers of the networks: the axis of a pack's members at the front, and a tensor for each of its readers."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def lead(info: Any, in_dims: tuple[int | None, ...], *operands: Tensor) -> list[Tensor]:
    """The operands [E, ...] with the members' axis first, also those that members share."""
    pairs = zip(operands, in_dims, strict=False)
    return [x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0) for x, d in pairs]


def each(x: Tensor | tuple[Tensor, ...], readers: int) -> tuple[Tensor, ...]:
    """``x`` for each of its readers; a tuple has one tensor for each already."""
    return x if isinstance(x, tuple) else (x,) * readers
