"""The models of the pack benchmark: the tasks' own networks at the sizes that the targets name.

Their data needs no download and has the shapes of the real sets; its content does not matter for a speed. ``quick``
gives models for a smoke test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dse.errors import UserError
from dse.tasks.base import Task, Training
from dse.tasks.data.images import Images
from dse.tasks.data.tables import TabularData, gaussian
from dse.tasks.data.text import PRINTABLE, Text, load_text
from dse.tasks.diffusion import Diffusion
from dse.tasks.image import Image
from dse.tasks.lm import SIZES, LanguageModel
from dse.tasks.nets.dit import Dit
from dse.tasks.nets.llama import Llama
from dse.tasks.nets.mlp import Mlp
from dse.tasks.nets.vit import Vit
from dse.tasks.regression import Regression
from dse.tasks.streams import generator

STEPS = 256
"""Length of a benchmark's training; a measurement that needs more steps starts it again."""


@dataclass(frozen=True)
class BenchModel:
    """A model to time: ``task`` with ``batch`` items a step; ``text``: what it is, for people.

    ``activations``: their format between layers, as in ``Training``.
    """

    name: str
    task: Task[Any]
    batch: int
    text: str
    activations: str = "fp32"

    @property
    def training(self) -> Training:
        """A rate at which nothing diverges, without a schedule."""
        own: dict[str, Any] = {"batch": self.batch, "activations": self.activations}
        return Training(steps=STEPS, lr=3e-4, schedule="constant", warmup=0.0, **own)

    def tokens(self) -> int:
        """Tokens of a step of a language model. Raises TypeError for another task."""
        if not isinstance(self.task, LanguageModel):
            raise TypeError(f"{self.name} is no language model")
        return self.batch * SIZES[self.task.size].context


@dataclass(frozen=True)
class Rows(Regression):
    """Gaussian rows into a perceptron features-hidden-hidden-1."""

    features: int = 32
    hidden: int = 256

    def load(self, data_dir: Path | None = None) -> TabularData:
        return gaussian(10_000, self.features, 0.0)

    def model(self, data: TabularData) -> nn.Module:
        return Mlp([self.features, self.hidden, self.hidden], outputs=1)


@dataclass(frozen=True)
class OfflineLanguageModel(LanguageModel):
    """The task's own sizes, on random characters where there is no text."""

    def load(self, data_dir: Path | None = None) -> Text:
        try:
            return load_text(self.text, data_dir)
        except UserError:  # a Python without its library's sources
            x = torch.randint(len(PRINTABLE), (1_000_000,), generator=generator("letters"), dtype=torch.uint8)
            return Text(x[:900_000], x[900_000:], PRINTABLE)


@dataclass(frozen=True)
class Letters(OfflineLanguageModel):
    """A Llama of any width; the context is that of ``size``: 128 characters for small, 64 for tiny."""

    size: str = "small"
    width: int = 128
    depth: int = 4
    heads: int = 4

    def model(self, data: Text) -> nn.Module:
        context = 128 if self.size == "small" else 64
        return Llama(len(data.alphabet), context, self.width, self.depth, self.heads, _hidden(self.width))


@dataclass(frozen=True)
class RandomPictures(Image):
    """Random images of ``side`` squared pixels into a transformer, or a perceptron of twice its width."""

    side: int = 28
    width: int = 128
    depth: int = 4
    heads: int = 4

    def load(self, data_dir: Path | None = None) -> Images:
        return _images(self.side)

    def model(self, data: Images) -> nn.Module:
        if self.net == "mlp":
            hidden = 2 * self.width
            return nn.Sequential(nn.Flatten(-2), Mlp([self.side**2, hidden, hidden], data.classes))
        return Vit(self.side, 4, self.width, self.depth, self.heads, _hidden(self.width), data.classes)


@dataclass(frozen=True)
class RandomDit(Diffusion):
    """A DiT on random images."""

    side: int = 28
    width: int = 128
    depth: int = 4
    heads: int = 4

    def load(self, data_dir: Path | None = None) -> Images:
        return _images(self.side)

    def model(self, data: Images) -> nn.Module:
        return Dit(self.side, 4, self.width, self.depth, self.heads, _hidden(self.width))


def _hidden(width: int) -> int:
    """SwiGLU's width: 8/3 of the model's, up to the next multiple of 32."""
    return -(-8 * width // 96) * 32


def _images(side: int) -> Images:
    random = generator("pictures", side)
    x = torch.randint(256, (4096, side, side), generator=random, dtype=torch.uint8)
    y = torch.randint(10, (4096,), generator=random)
    pixels = x.double()
    return Images(x[512:], y[512:], x[:512], y[:512], pixels.mean().item(), pixels.std().item())


def _mlp(quick: bool) -> BenchModel:
    hidden, batch = (64, 32) if quick else (256, 256)
    return BenchModel("mlp", Rows(hidden=hidden), batch, f"regression MLP 32-{hidden}-{hidden}-1, batch {batch}")


def _gpt(name: str, width: int) -> Callable[[bool], BenchModel]:
    def make(quick: bool) -> BenchModel:
        if quick:
            task = Letters(size="tiny", width=width // 4, depth=1, heads=2)
            return BenchModel(name, task, 2, f"GPT, 1 layer, d={width // 4}, batch 2 x 64")
        task = Letters(width=width, heads=width // 32)
        return BenchModel(name, task, 16, f"GPT, 4 layers, d={width}, batch 16 x 128, stdlib text (96 characters)")

    return make


def _lm(size: str) -> Callable[[bool], BenchModel]:
    def make(quick: bool) -> BenchModel:
        if quick:
            return replace(_gpt("", 128)(True), name=f"lm-{size}")
        facts = SIZES[size]
        batch = facts.training.batch
        text = f"lm {size}: {facts.depth} layers, d={facts.width}, batch {batch} x {facts.context}"
        return BenchModel(f"lm-{size}", OfflineLanguageModel(size=size), batch, text)

    return make


def _dit(quick: bool) -> BenchModel:
    if quick:
        return BenchModel("dit", RandomDit(side=8, width=32, depth=1, heads=2), 4, "DiT, 1 layer, d=32, batch 4 x 4")
    return BenchModel("dit", RandomDit(), 32, "DiT, 4 layers, d=128, batch 32 x 49")


def _vit(quick: bool) -> BenchModel:
    if quick:
        task = RandomPictures(net="vit", side=8, width=32, depth=1, heads=2)
        return BenchModel("vit", task, 4, "ViT, 1 layer, d=32, batch 4 x 4")
    return BenchModel("vit", RandomPictures(net="vit"), 64, "image classifier: ViT, 4 layers, d=128, batch 64 x 49")


def _image_mlp(quick: bool) -> BenchModel:
    if quick:
        return BenchModel(
            "image_mlp", RandomPictures(side=8, width=32), 16, "image classifier: MLP 64-64-64-10, batch 16"
        )
    return BenchModel("image_mlp", RandomPictures(), 128, "image classifier: MLP 784-256-256-10, batch 128")


COMPARED: dict[str, Callable[[bool], BenchModel]] = {
    "mlp": _mlp,
    "gpt128": _gpt("gpt128", 128),
    "gpt256": _gpt("gpt256", 256),
    "dit": _dit,
    "vit": _vit,
    "image_mlp": _image_mlp,
}
"""Name -> its maker; True for the small one of a smoke test."""

GROWTH = tuple(f"lm-{size}" for size in ("0.5M", "1M", "3M", "9M", "30M", "60M"))
"""The language models of growing size."""

SUBJECTS = COMPARED | {name: _lm(name.removeprefix("lm-")) for name in GROWTH}
"""Every model: those that packs are compared on, and those of growing size."""


def linear_parameters(subject: BenchModel) -> int:
    """Weights of the model's linears."""
    return sum(linear.weight.numel() for linear in _linears(subject))


def linear_features(subject: BenchModel) -> int:
    """Inputs and outputs of the model's linears, for one token."""
    return sum(sum(linear.weight.shape) for linear in _linears(subject))


@lru_cache(maxsize=16)
def _linears(subject: BenchModel) -> tuple[nn.Linear, ...]:
    data = subject.task.load()
    with torch.device("meta"):
        model = subject.task.model(data)
    return tuple(module for module in model.modules() if isinstance(module, nn.Linear))
