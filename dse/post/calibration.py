"""Calibration: statistics of the inputs of a model's layers, from a few passes in the trained precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dse.errors import CalibrationError
from dse.nn.unfold import Window, patches
from dse.numerics.input_statistics import InputStatistics

Calibration = Callable[[nn.Module], object] | Iterable[Any]
"""A function that runs the model on calibration data, or inputs: tensors, tuples of arguments or mappings of them."""


def rows_of(layer: nn.Module, x: Tensor) -> Tensor:
    """The rows [M, K] that a linear or convolution multiplies by its weight [N, K]."""
    if isinstance(layer, nn.Conv2d):
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        return patches(batch, Window.of(layer)).flatten(0, 1)
    return x.reshape(-1, x.shape[-1])


def input_statistics(
    model: nn.Module, layers: Mapping[str, nn.Module], calibration: Calibration, keep: int = 0
) -> dict[str, InputStatistics]:
    """Statistics of the inputs of ``layers`` (by name, modules of ``model``), float64, in evaluation mode.

    All layers are looked at in the model as it is: no input has passed through quantized layers. Raises
    CalibrationError for activations that are not finite; a layer that no input has reached has no entry. ``keep``: rows
    of each layer's input that methods want to see themselves.
    """
    found: dict[str, InputStatistics] = {}

    def look(name: str, layer: nn.Module, x: Tensor) -> None:
        had = found[name].rows if name in found else 0
        own = InputStatistics.of(rows_of(layer, x), max(0, keep - had))
        if not own.largest.isfinite().all():
            what = "NaN" if own.largest.isnan().any() else "infinite"
            raise CalibrationError(f"calibration: an input of layer {name} is {what}; look for the batch that makes it")
        found[name] = found[name] + own if name in found else own

    handles = [
        layer.register_forward_pre_hook(lambda module, args, name=name: look(name, module, args[0]))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad(), _evaluating(model):
            _run(model, calibration)
    finally:
        for handle in handles:
            handle.remove()
    return found


def check_statistics(name: str, width: int, found: Mapping[str, InputStatistics]) -> InputStatistics:
    """Those of a layer with K = ``width``. Raises CalibrationError where no input has reached it, or fewer than K."""
    if name not in found or not found[name].rows:
        raise CalibrationError(
            f"calibration never reached layer {name}; calibrate with data that does, or exempt it from quantization"
        )
    own = found[name]
    if own.rows < width:
        raise CalibrationError(
            f"too little calibration data: layer {name} has {width} input features and saw {own.rows} rows; take at "
            f"least {-(-width // own.rows)} times as many batches"
        )
    return own


def _run(model: nn.Module, calibration: Calibration) -> None:
    if callable(calibration):
        calibration(model)
        return
    for inputs in calibration:
        if isinstance(inputs, Mapping):
            model(**inputs)
        elif isinstance(inputs, tuple | list):
            model(*inputs)
        else:
            model(inputs)


@contextmanager
def _evaluating(model: nn.Module) -> Any:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


__all__ = ["Calibration", "check_statistics", "input_statistics", "rows_of"]
