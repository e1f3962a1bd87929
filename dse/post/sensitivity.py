"""How much a model minds a format at one of its layers: the scores of AutoQuantize's candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dse.errors import CalibrationError
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.post import AutoQuantize, LayerFormat
from dse.post.calibration import Calibration, check_statistics, evaluating, layer_input, losses
from dse.post.chosen_layers import ChosenLayer, chosen_layers
from dse.post.layers import PostQuantizedLayer

Question = tuple[tuple[str, str, tuple[LayerFormat, ...]], ...]
"""Name, kind of score and candidates of every layer that has several: what scores are an answer to."""


class FormatScores(NamedTuple):
    """What a layer's candidates lose, and the bits that they take in it."""

    losses: tuple[float, ...]
    bits: tuple[float, ...]


def question(model: nn.Module, recipe: Recipe, exempt: Sequence[str] | str = ()) -> Question:
    """What a recipe's search asks of a model, budgets aside: configurations that ask the same share the scores."""
    layers = chosen_layers(model, recipe, exempt)
    return tuple((name, _score(layer), layer.candidates) for name, layer in layers.items() if _searched(layer))


def sensitivities(
    model: nn.Module,
    recipe: Recipe,
    calibration: Calibration,
    statistics: Mapping[str, InputStatistics],
    exempt: Sequence[str] | str = (),
    *,
    seed: int = 0,
) -> dict[str, FormatScores]:
    """The score of each candidate of every layer that has several, float64; all other layers stay unquantized.

    ``statistics``: of the inputs of layers whose candidates look at them; ``calibration``: inputs, or a function that
    runs the model; where scores are by gradient the function returns the loss, or yields one after the other (inputs: a
    model that returns something with a ``loss``). Raises CalibrationError where there is none, for layers that it never
    reaches, and for scores that are not finite.
    """
    layers = {name: own for name, own in chosen_layers(model, recipe, exempt).items() if _searched(own)}
    made: dict[str, list[PostQuantizedLayer]] = {}
    with torch.no_grad():
        for name, layer in layers.items():
            own = check_statistics(name, layer.module.weight[0].numel(), statistics) if layer.calibrates else None
            made[name] = [layer.quantized(name, i, own, seed) for i in range(len(layer.candidates))]
    watch = _Watch({name: _score(layer) == "gradient" for name, layer in layers.items()}, made)
    handles = [
        # before the model's own hooks, which may change y
        layer.module.register_forward_hook(watch.hook(name), prepend=True, with_kwargs=True)
        for name, layer in layers.items()
    ]
    gradients = any(watch.gradients.values())
    try:
        with torch.set_grad_enabled(gradients), evaluating(model):
            for loss in losses(model, calibration):
                watch.add(loss)
    finally:
        for handle in handles:
            handle.remove()
    return {name: FormatScores(watch.scores(name), tuple(own.bits for own in made[name])) for name in layers}


def _searched(layer: ChosenLayer) -> bool:
    return len(layer.candidates) > 1


def _score(layer: ChosenLayer) -> str:
    return layer.method.score if isinstance(layer.method, AutoQuantize) else ""


_Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Tensor], Tensor | None]


class _Watch:
    """What candidates change of their layers' outputs in the passes since the last loss, and the scores so far."""

    def __init__(self, gradients: Mapping[str, bool], made: Mapping[str, Sequence[nn.Module]]) -> None:
        self.gradients, self._made = gradients, made
        self._seen: list[tuple[str, Tensor, list[Tensor]]] = []
        self._sums: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._reached: set[str] = set()

    def hook(self, name: str) -> _Hook:
        """What looks at a layer's output, and hands on a copy where its gradient is needed."""

        def hook(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], y: Tensor) -> Tensor | None:
            x = layer_input(args, options)
            if y.numel():
                self._reached.add(name)
            with torch.no_grad():
                off = [(own(x) - y).float() for own in self._made[name]]
            if not self.gradients[name]:
                self._add(name, torch.stack([one.square().sum(dtype=torch.float64) for one in off]))
                size = y.detach().float().square().sum(dtype=torch.float64)
                self._outputs[name] = self._outputs.get(name, torch.zeros_like(size)) + size
                return None
            y = y if y.requires_grad else y.detach().requires_grad_()
            self._seen.append((name, y, off))
            return y.clone()  # what follows may change its input in place

        return hook

    def add(self, loss: Tensor | None) -> None:
        """Takes the passes since the last loss into account."""
        if not any(self.gradients.values()):
            return
        if loss is None or not loss.requires_grad:
            raise CalibrationError(
                "autoquantize scores layers by the gradient of the loss: calibrate with a function that returns it, or "
                "yields one after the other, or set post.score: output"
            )
        outputs = [y for _, y, _ in self._seen]
        found = torch.autograd.grad(loss.sum(), outputs, allow_unused=True)
        for (name, _, off), g in zip(self._seen, found, strict=True):
            if g is not None:
                self._add(name, torch.stack([(g.float() * one).square().sum(dtype=torch.float64) for one in off]))
        self._seen.clear()

    def _add(self, name: str, scores: Tensor) -> None:
        self._sums[name] = self._sums[name] + scores if name in self._sums else scores

    def scores(self, name: str) -> tuple[float, ...]:
        """Of a layer's candidates."""
        if name not in self._reached:
            raise CalibrationError(
                f"calibration never reached layer {name}; calibrate with data that does, or exempt it from quantization"
            )
        if name not in self._sums:
            raise CalibrationError(
                f"autoquantize: the loss does not depend on the output of layer {name}; return one that does, exempt "
                "the layer, or set post.score: output"
            )
        found = self._sums[name]
        if not self.gradients[name]:  # zeros that stay zeros have lost nothing
            found = torch.where(found == 0, 0.0, found / self._outputs[name])
        if not found.isfinite().all():
            raise CalibrationError(
                f"autoquantize: a score of layer {name} is not finite; look for the batch that makes it"
            )
        return tuple(found.tolist())


__all__ = ["FormatScores", "Question", "question", "sensitivities"]
