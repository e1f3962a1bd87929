"""Dropout whose masks come from Philox: a member of a pack, alone or not, drops the same elements in the same step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dse.numerics.random import Key
from dse.tasks.streams import DROPOUT, LAYER

BITS = 16
"""Of a draw: the probability is rounded to a multiple of 2⁻¹⁶."""


def dropout(x: Tensor, p: float, clock: Tensor | None, place: int) -> Tensor:
    """x with each element 0 with probability p, the others divided by 1 - p; x itself without a `clock`.

    `clock` int64 [2] (seed, step) of the member; `place`: number of the dropout in the model.
    """
    if clock is None or not p:
        return x
    return (x * mask(clock, p, place, x.shape)).to(x.dtype)


def mask(clock: Tensor, p: float, place: int, shape: tuple[int, ...]) -> Tensor:
    """0 with probability p, otherwise 1 / (1 - p): float32 of `shape`."""
    columns = shape[-1]
    flat: Tensor = _Mask.apply(clock, p, place, torch.Size(shape[:-1]).numel(), columns)  # type: ignore[no-untyped-call]
    return flat.view(shape)


class _Mask(Function):
    """[rows, columns] for one member, drawn for all of them at once under vmap."""

    @staticmethod
    def forward(clock: Tensor, p: float, place: int, rows: int, columns: int) -> Tensor:
        bits = Key(clock, LAYER - 1 - place, DROPOUT).bits(rows, columns, BITS)
        kept: Tensor = (bits >= round(p * 2**BITS)).float() * (1 / (1 - p))
        return kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        return None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], clock: Tensor, *rest: Any) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        kept: Tensor = _Mask.apply(clock.movedim(in_dims[0], 0), *rest)  # type: ignore[no-untyped-call]
        return kept, 0
