"""The models that a pack's members start from: the task's, initialized by their seed, or with trained weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.trial import Trial

ModelWeights = Mapping[str, Tensor]
"""The parameters of one trial's plain model by name, on the CPU."""
Weights = Mapping[str, ModelWeights]
"""Trained parameters by the uid of the trial that trained them."""


def first_models(trials: Sequence[Trial], data: Any, weights: Weights | None) -> list[nn.Module]:
    """Every member's plain model, on the CPU; members of one seed and one start share theirs.

    ``weights``: those of the trials that members start from; None: all start from the task's initialization. Raises
    UserError for weights of another model.
    """
    made: dict[tuple[int, str], nn.Module] = {}
    for trial in trials:
        if (key := _key(trial)) not in made:
            made[key] = trained_model(trial, data, weights[trial.start.uid] if trial.start and weights else None)
    models = [made[_key(trial)] for trial in trials]
    return [copy.deepcopy(models[0]), *models[1:]]


def trained_model(trial: Trial, data: Any, parameters: ModelWeights | None) -> nn.Module:
    """The trial's plain model on the CPU, initialized by its seed, with trained parameters where there are some.

    Raises UserError for parameters of another model.
    """
    torch.manual_seed(trial.seed)
    model = trial.task.model(data)
    if parameters is not None:
        _load(model, parameters, trial)
    return model


def _key(trial: Trial) -> tuple[int, str]:
    return trial.seed, trial.start.uid if trial.start else ""


def _load(model: nn.Module, trained: ModelWeights, trial: Trial) -> None:
    own = dict(model.named_parameters())
    for name in own.keys() ^ trained.keys():
        raise UserError(f"{trial.task.name}: it cannot start from weights of another model, which differs in {name}")
    for name, parameter in own.items():
        if parameter.shape != trained[name].shape:
            shapes = f"{tuple(trained[name].shape)}, here {tuple(parameter.shape)}"
            raise UserError(f"{trial.task.name}: it cannot start from weights of another shape: {name} is {shapes}")
        with torch.no_grad():
            parameter.copy_(trained[name])


__all__ = ["ModelWeights", "Weights", "first_models", "trained_model"]
