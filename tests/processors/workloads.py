"""Everything that a training and its evaluation do, in small: every net, recipe, optimizer, schedule and technique."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe, override
from dse.numerics.techniques.schedules import SCHEDULES
from dse.optim import OPTIMIZERS
from dse.optim.loss_scaling import LOSS_SCALINGS
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.tasks import TASKS, Task, addition, diffusion, image
from dse.tasks.lm import SIZES
from dse.trial import Trial
from tests.contract.members import QUANTIZERS
from tests.tasks.zoo import NETS

TASKS_OF_ALL_NETS: dict[str, Task[Any]] = {
    **{name: cls() for name, cls in TASKS.items()},
    "diabetes": TASKS["regression"](source="diabetes"),
    "linear": TASKS["regression"](net="linear", noise=0.1),
    "vit": TASKS["image"](net="vit"),
    "edm": TASKS["diffusion"](process="edm"),
    "gpt": TASKS["lm"](size="nanogpt-gpu"),
    **{name: NETS[name] for name in ("cnn", "cnn-paper-cifar", "resnet", "unet", "qk-norm")},
}
REPEATED = ("regression", "diffusion", "lm", "cnn", "resnet", "unet")
MIX = (
    *(RECIPES[name] for name in ("bf16", "nvfp4", "mxfp4_rht_sr", "quartet")),
    override(RECIPES["nvfp4_plain"], "attention", "same"),
)
"""A number of members that nothing else in the trainings has."""


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Language models of a few tokens, evaluations of a few items."""
    for name, options in (("tiny", {"hidden": 48}), ("nanogpt-gpu", {})):
        small = replace(SIZES[name], depth=1, width=32, heads=2, context=16, held_out=64, **options)
        monkeypatch.setitem(SIZES, name, small)
    monkeypatch.setattr(diffusion, "STEPS", 2)
    monkeypatch.setattr(addition, "HELD_OUT", 24)
    for module in (image, diffusion):
        monkeypatch.setattr(module, "HELD_OUT", 6)
        monkeypatch.setattr(module, "CONVOLVED", dict.fromkeys(module.CONVOLVED, 6))


def workloads(everything: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """(what, a function that does it); data and initial models, which members do not differ in, are there before.

    Not quite ``everything``: without what is slow and calls what the others call.
    """
    for name, task in TASKS_OF_ALL_NETS.items():
        if everything or name not in REPEATED:
            yield f"task {name}", train(task, MIX)
    small = TASKS["regression"](net="linear")
    yield "every recipe", train(small, list(RECIPES.values()))
    for name in OPTIMIZERS:
        yield f"optimizer {name}", train(small, MIX[:1], optimizer=name, decayed="matrices")
    for name in LOSS_SCALINGS:
        yield f"loss scaling {name}", train(small, MIX[:1], loss_scaling=name)
    for name in SCHEDULES:
        yield f"schedule {name}", train(small, [override(RECIPES["nvfp4"], "schedule", name)])
    for name, quantizer in QUANTIZERS.items() if everything else ():
        yield f"quantizer {name}", partial(quantize, quantizer)


def train(task: Task[Any], recipes: Sequence[Recipe], **training: Any) -> Callable[[], None]:
    """A step, an evaluation and what is made and graded, of trials under these recipes."""
    data = task.load()
    settings = replace(task.training(), steps=1, batch=2, clip=1.0, **training)
    program = TrainStep([Trial(task, settings, recipe, 1) for recipe in recipes], data, "cpu", False)
    return partial(go, program, data)


def go(program: TrainStep, data: Any) -> None:
    program.pack.reschedule(0, 1)
    program.step()
    program.evaluate()
    with program.pack.as_baseline():
        program.pack.samples(data)


def quantize(quantizer: Quantizer) -> None:
    """f(X) and its derivative for two members."""
    x, memory = torch.ones(2, 5, 37).cumsum(-1).sin(), torch.zeros(2, 6)
    for step in range(2):
        key = Key(torch.tensor([[1, step], [2, step]]), 2, 1, memory=memory)
        quantizer(x, key)
        quantizer.vjp(x, x, key)
