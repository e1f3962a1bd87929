"""Recipes, tasks and settings by their names in Python, and the one line about a name that there is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from dse import RECIPES, TASKS, Trial, UserError, make_task, make_trial, override, quantize_, run_trial
from dse.nn.linear import QuantizedLinear


def test_a_recipe_by_its_name_is_that_recipe() -> None:
    model = quantize_(nn.Sequential(nn.Linear(32, 16)), "mxfp4")
    assert isinstance(model[0], QuantizedLinear)
    assert model[0].recipe == RECIPES["mxfp4"]
    task = make_task("regression", {"outliers": 8})
    training = replace(task.training(), steps=3)
    by_object = Trial(task, training, RECIPES["nvfp4"], seed=1)
    assert Trial(task, training, "nvfp4", seed=1) == by_object  # type: ignore[arg-type]
    assert make_trial("regression", "nvfp4", 1, options={"outliers": 8}, training={"steps": 3}) == by_object
    assert make_trial(task, RECIPES["nvfp4"], 1, training={"steps": 3}).uid == by_object.uid


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RECIPES["nvfp44"], "unknown recipe 'nvfp44'; did you mean 'nvfp4'?"),
        (lambda: TASKS["regresion"], "unknown task 'regresion'; did you mean 'regression'?"),
        (lambda: quantize_(nn.Sequential(nn.Linear(32, 16)), "nvfp44"), "unknown recipe 'nvfp44'; did you mean"),
        (lambda: quantize_(nn.Sequential(nn.Linear(32, 16)), None), "expected a recipe or the name of one, not None"),  # type: ignore[arg-type]
        (lambda: make_trial("lm", "mxpf4"), "unknown recipe 'mxpf4'; did you mean 'mxfp4'?"),
        (lambda: make_trial("lm", "mxfp4", training={"step": 3}), "unknown training setting 'step'; did you mean"),
        (lambda: override("nvfp4", "G.rounding", "stochastic"), "override takes a recipe, RECIPES['nvfp4'] for"),  # type: ignore[arg-type]
    ],
)
def test_names_that_there_are_not(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_a_missing_recipe_is_a_missing_key_too() -> None:
    with pytest.raises(KeyError):
        RECIPES["nvfp44"]
    assert RECIPES.get("nvfp44") is None
    assert "nvfp44" not in RECIPES


def test_a_trial_runs_on_one_thread_and_leaves_torch_as_it_was() -> None:
    trial = make_trial("regression", "mxfp4", training={"steps": 4, "batch": 64})
    before = torch.get_num_threads()
    try:
        metrics = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            metrics.append(run_trial(trial).metric)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert metrics[0] == metrics[1]
