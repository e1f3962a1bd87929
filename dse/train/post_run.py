"""Trials after training: weights that were trained under ``bf16`` are calibrated, quantized and evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.nn.attention import QuantizedAttention
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.recipe import Recipe
from dse.numerics.stored_bits import stored_bits
from dse.numerics.techniques.post import candidates
from dse.pack.starts import ModelWeights, trained_model
from dse.post.calibration import input_statistics
from dse.post.chosen_layers import LEFT_BITS, left_weights
from dse.post.layers import PostQuantizedLayer
from dse.post.quantize_post import calibrated_layers, quantize_with
from dse.post.sensitivity import FormatScores, Question, question, sensitivities
from dse.results.record import DIVERGED, FAILED, OK
from dse.results.samples import MADE
from dse.tasks.base import single
from dse.train.context import OnStep
from dse.train.processor import processor
from dse.trial import Trial


def quantized_outcomes(
    trials: Sequence[Trial], data: Any, device: str, weights: Mapping[str, ModelWeights], on_step: OnStep | None = None
) -> list[dict[str, Any]]:
    """Quantizes and evaluates trials, one after the other; the fields of their records that this decides, in order.

    ``weights``: trained parameters by uid; ``on_step``: called before each trial. Trials of one trained model share its
    calibration. Too little calibration data, activations that are not finite, layers that it never reaches, models with
    layers that a recipe cannot quantize and models of which it would quantize none fail the trials concerned, and no
    others; metrics that are not finite are a divergence.
    """
    models: dict[str, _Calibrated] = {}
    outcomes = []
    for number, trial in enumerate(trials):
        if on_step:
            on_step(number, len(trials))
        (trained,) = trial.needs
        if trained.uid not in models:
            recipes = [other.recipe for other in trials if other.needs == trial.needs]
            model = trained_model(trained, data, weights[trained.uid]).to(device).eval()
            models[trained.uid] = _Calibrated(trained, model, data, recipes)
        try:
            own = _outcome(trial, models[trained.uid], data)
        except UserError as error:
            own = {"status": FAILED, "error": str(error)}
        facts = {"width": len(trials), "position": number, "kernels": False, "graph": False}
        outcomes.append(own | {"pack": {**facts, **own.get("pack", {}), "processor": dict(processor())}})
    return outcomes


class _Calibrated:
    """A trained model, and statistics of its layers' inputs, taken when a trial first asks for so many batches."""

    def __init__(self, trained: Trial, model: nn.Module, data: Any, recipes: Sequence[Recipe]) -> None:
        self.model, self._trial, self._data, self._recipes = model, trained, data, recipes
        self._known: dict[int, dict[str, InputStatistics]] = {}
        self._scores: dict[tuple[int, Question], dict[str, FormatScores]] = {}

    def statistics(self, batches: int) -> dict[str, InputStatistics]:
        """From training batches that come after the last of the training: the same for all trials of the model."""
        if batches not in self._known:
            task = self._trial.task
            recipes = [recipe for recipe in self._recipes if recipe.post and recipe.post.batches == batches]
            layers: dict[str, nn.Module] = {}
            for recipe in recipes:
                with suppress(UserError):  # the trials of this recipe fail with it, and no others
                    layers |= calibrated_layers(self.model, recipe, task.exempt())
            keep = max((recipe.post.keeps for recipe in recipes if recipe.post), default=0)
            run = self._losses(batches)
            self._known[batches] = input_statistics(self.model, layers, run, keep) if layers else {}
        return self._known[batches]

    def scores(self, recipe: Recipe) -> dict[str, FormatScores]:
        """Of what a recipe's search may choose; configurations that differ in their budgets share them."""
        assert recipe.post is not None
        task, batches = self._trial.task, recipe.post.batches
        asked = batches, question(self.model, recipe, task.exempt())
        if asked[1] and asked not in self._scores:
            found = self.statistics(batches) if recipe.post.calibrates else {}
            self._scores[asked] = sensitivities(
                self.model, recipe, self._losses(batches), found, task.exempt(), seed=self._trial.seed
            )
        return self._scores.get(asked, {})

    def _losses(self, batches: int) -> Callable[[nn.Module], Iterator[Tensor]]:
        """What runs a model on the calibration data, and yields the losses."""
        trial, task = self._trial, self._trial.task

        def run(model: nn.Module) -> Iterator[Tensor]:
            for step in range(trial.training.steps, trial.training.steps + batches):
                yield task.loss(model, single(task, self._data, trial.seed, step, trial.training.batch))

        return run


def _outcome(trial: Trial, trained: _Calibrated, data: Any) -> dict[str, Any]:
    """What becomes of one trial."""
    task, recipe = trial.task, trial.recipe
    assert recipe.post is not None
    found = trained.statistics(recipe.post.batches) if recipe.post.calibrates else {}
    model = quantize_with(trained.model, recipe, found, task.exempt(), trained.scores(recipe), seed=trial.seed)
    layers = [layer for layer in model.modules() if isinstance(layer, PostQuantizedLayer)]
    sizes = [layer.weight.numel() for layer in layers]
    bits = [stored_bits(layer.gemm.rhs, *layer.weight.shape) + layer.beside / layer.weight.numel() for layer in layers]
    left = left_weights(trained.model, recipe, task.exempt())
    total = sum(b * n for b, n in zip(bits, sizes, strict=True)) + LEFT_BITS * left
    facts: dict[str, Any] = {
        "quantized_layers": len(layers),
        "weights": sum(sizes) + left,
        "left_weights": left,
        "bits_per_weight": round(total / (sum(sizes) + left), 6),
    }
    count = max(len(candidates(own.post or recipe.post, own.fprop)) for own in recipe.numerics)
    if count > 1:
        of = [sum(n for n, layer in zip(sizes, layers, strict=True) if layer.format == i) for i in range(count)]
        facts["format_shares"] = [round(n / sum(sizes), 6) for n in of]
    if found:
        facts["calibration_rows"] = min(own.rows for own in found.values())
    metrics, samples = _evaluated(trial, model, data)
    value, steps = metrics[task.metric], trial.training.steps
    fields: dict[str, Any] = {
        "metrics": metrics,
        "evals": [[steps, value]],
        "samples": samples,
        "pack": {"post": facts},
    }
    if not math.isfinite(value):
        return fields | {
            "status": DIVERGED,
            "diverged_at": steps,
            "diverged_where": f"held-out {task.metric} is {value}",
        }
    if not any(isinstance(module, QuantizedAttention) for module in model.modules()):
        for layer in layers:
            layer.widen_inputs()
        fields["metrics_bf16"] = _evaluated(trial, model, data)[0]
    return fields | {"status": OK, "metric": value}


def _evaluated(trial: Trial, model: nn.Module, data: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """Held-out metrics with those of the model's samples, and a few pictures of these."""
    task = trial.task
    metrics, prompts = task.evaluate(model, data), task.prompts(data)
    if prompts is None:
        return metrics, {}
    with torch.no_grad():
        made = task.samples(model, prompts)
    pictures = task.show(data, made)
    return metrics | task.grade(data, made), {MADE: pictures.plain()} if pictures else {}


__all__ = ["quantized_outcomes"]
