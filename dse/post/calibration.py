"""Calibration: statistics of the inputs of a model's layers, from a few passes in the trained precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dse.errors import CalibrationError
from dse.nn.unfold import Window, patches
from dse.numerics.input_statistics import InputStatistics

Calibration = Callable[[nn.Module], object] | Iterable[Any]
"""A function that runs the model on calibration data, or inputs: tensors, tuples of arguments or mappings of them.

Where a method needs the loss, the function returns it or yields one after the other; of inputs it is the model's own
(``model(...).loss``).
"""


def rows_of(layer: nn.Module, x: Tensor) -> Tensor:
    """The rows [M, K] that a linear or convolution multiplies by its weight [N, K]."""
    if isinstance(layer, nn.Conv2d):
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        return patches(batch, Window.of(layer)).flatten(0, 1)
    return x.reshape(-1, x.shape[-1])


def layer_input(args: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
    """The input of a linear or convolution that was called with these arguments."""
    x: Tensor = args[0] if args else options["input"]
    return x


def input_statistics(
    model: nn.Module, layers: Mapping[str, nn.Module], calibration: Calibration, keep: int = 0
) -> dict[str, InputStatistics]:
    """Statistics of the inputs of ``layers`` (by name, modules of ``model``), float64, in evaluation mode.

    All layers are looked at in the model as it is: no input has passed through quantized layers. Raises
    CalibrationError for activations that are not finite; a layer that no input has reached has no entry. ``keep``: rows
    of each layer's input that methods want to see themselves.
    """
    sums = _Sums(model, keep)

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        return lambda layer, args, options: sums.add(name, layer, layer_input(args, options))

    handles = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with torch.no_grad(), evaluating(model):
            for _ in losses(model, calibration):
                pass
    finally:
        for handle in handles:
            handle.remove()
    return sums.found


class _Sums:
    """The statistics of each layer so far; layers that are called with one tensor (q, k, v) share theirs."""

    def __init__(self, model: nn.Module, keep: int) -> None:
        self.found: dict[str, InputStatistics] = {}
        self._model = model
        self._keep = keep
        self._last: _Looked | None = None

    def add(self, name: str, layer: nn.Module, x: Tensor) -> None:
        """Takes an input of a layer into account. Raises CalibrationError where it is not finite."""
        before = self.found.get(name)
        version = object() if x.is_inference() else x._version  # inference tensors do not tell that they change
        key = (x.data_ptr(), x.shape, x.stride(), x.dtype, version, _window(layer))
        if self._last is None or self._last.key != key or self._last.before is not before:
            own = InputStatistics.of(rows_of(layer, x), self._keep, before.rows if before else 0)
            if not own.largest.isfinite().all():
                what = "NaN" if own.largest.isnan().any() else "infinite"
                why = not_finite(self._model.named_parameters()) or "look for the batch that makes it"
                raise CalibrationError(f"calibration: an input of layer {name} is {what}; {why}")
            self._last = _Looked(x, key, before, own if before is None else before + own)
        self.found[name] = self._last.after


@dataclass(frozen=True)
class _Looked:
    """A layer's input, kept so that no other tensor has its place in memory, with the sums before and after it."""

    x: Tensor
    key: tuple[object, ...]
    before: InputStatistics | None
    after: InputStatistics


def _window(layer: nn.Module) -> Window | None:
    return Window.of(layer) if isinstance(layer, nn.Conv2d) else None


def not_finite(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """The first of named parameters that is not finite, and how; empty where all are."""
    for name, p in parameters:
        if p.is_floating_point() and not p.is_meta and not (finite := p.detach().isfinite()).all():
            nans = int(p.detach().isnan().sum())
            infinite = int((~finite).sum()) - nans
            counts = [f"{count:,} {what}" for count, what in ((nans, "NaN"), (infinite, "infinite")) if count]
            return f"{name} has {' and '.join(counts)} of {p.numel():,} values"
    return ""


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


def losses(model: nn.Module, calibration: Calibration) -> Iterator[Tensor | None]:
    """Runs the model on calibration data; the loss after each part of it, None where there is none."""
    if callable(calibration):
        found = calibration(model)
        for loss in found if isinstance(found, Iterator) else [found]:
            yield loss if isinstance(loss, Tensor) else None
        return
    given: object = calibration
    if isinstance(given, Mapping | str | bytes) or not isinstance(given, Iterable):
        raise CalibrationError(
            "calibration is a list of a model's inputs (tensors, tuples of arguments, mappings of keywords), or a "
            f"function that runs the model; this is {_called(given)}"
        )
    empty = True
    for inputs in calibration:
        empty = False
        if isinstance(inputs, Mapping):
            out = model(**inputs)
        elif isinstance(inputs, tuple | list):
            out = model(*inputs)
        else:
            out = model(inputs)
        loss = getattr(out, "loss", None)
        yield loss if isinstance(loss, Tensor) else None
    if empty:
        raise CalibrationError("calibration has no inputs: it is empty, or an iterator that has been used up")


def _called(calibration: object) -> str:
    kind = type(calibration).__name__
    return f"one {kind}: write [it]" if isinstance(calibration, Mapping) else f"of type {kind}"


@contextmanager
def evaluating(model: nn.Module) -> Any:
    """Evaluation mode inside, and each module's own mode afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


__all__ = [
    "Calibration",
    "check_statistics",
    "evaluating",
    "input_statistics",
    "layer_input",
    "losses",
    "not_finite",
    "rows_of",
]
