"""Taps: one more forward and backward pass of a pack's next step, in which some layers show their operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dse.pack.layer import PackLayer

if TYPE_CHECKING:
    from dse.pack.step import TrainStep

LayerTap = Callable[[str, PackLayer, Tensor, Tensor, Tensor, tuple[bool, bool]], None]
"""Called with a layer's name, the layer, and what ``dse.pack.layer.Tap`` takes."""


def show_operands(train_step: TrainStep, layers: Mapping[str, PackLayer], tap: LayerTap) -> None:
    """Calls ``tap`` for each of the layers by name, without changing the training's state or bits.

    Nothing is sampled: held tensor scales are read and left alone. A layer that is used several times is shown at its
    last use.
    """

    @torch.no_grad()
    def once(name: str, layer: PackLayer, x: Tensor, w: Tensor, g: Tensor, needs: tuple[bool, bool]) -> None:
        layer.tap = None
        tap(name, layer, x, w, g, needs)

    try:
        for name, layer in layers.items():
            layer.tap = partial(once, name, layer)
        objective = train_step.objective(sampling=False)[-1]
        torch.autograd.grad(objective, list(train_step.pack.leaf_parameters.values()), allow_unused=True)
    finally:
        for layer in layers.values():
            layer.tap = None
