"""Helper of the networks' custom vmap rules: brings the axis of a pack's members to the front."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def lead(info: Any, in_dims: tuple[int | None, ...], *operands: Tensor) -> list[Tensor]:
    """The operands [E, ...] with the members' axis first, also those that members share."""
    pairs = zip(operands, in_dims, strict=False)
    return [x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0) for x, d in pairs]
