"""Plain layers of every kind besides linears and 2-D convolutions, small, with inputs and their formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
from torch import Tensor, nn

from tests.layers import reference
from tests.quantizers import normal


@dataclass(frozen=True)
class Subject:
    """``make``: the plain layer; ``inputs``: what it is called with; ``formula``: its GEMMs written out, or none."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    formula: Callable[..., Tensor] | None = None
    call: Callable[..., Tensor] = lambda module, *x: module(*x)


def signal(*shape: int) -> Callable[[], tuple[Tensor]]:
    return lambda: (normal(*shape),)


def _convolution(make: Callable[[], nn.Module], *shape: int, formula: bool = True) -> Subject:
    return Subject(make, signal(*shape), reference.convolution if formula else None)


def _transposed(make: Callable[[], nn.Module], *shape: int, formula: bool = True) -> Subject:
    return Subject(make, signal(*shape), reference.transposed if formula else None)


def _first(module: nn.Module, *inputs: Any) -> Tensor:
    y: Tensor = module(inputs[0], inputs[0], inputs[0], need_weights=False)[0]
    return y


CONVOLUTIONS = {
    "conv1d": _convolution(lambda: nn.Conv1d(6, 5, 3, 2, padding=1), 3, 6, 11),
    "conv1d-groups": _convolution(lambda: nn.Conv1d(6, 4, 4, dilation=2, groups=2, bias=False), 3, 6, 11),
    "conv2d-groups": _convolution(lambda: nn.Conv2d(6, 9, (3, 2), (1, 2), (1, 0), groups=3), 2, 6, 7, 8),
    "depthwise": _convolution(lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6), 2, 6, 7, 8),
    "circular": _convolution(
        lambda: nn.Conv2d(4, 5, 3, padding=1, padding_mode="circular"), 2, 4, 7, 8, formula=False
    ),
    "reflect": _convolution(lambda: nn.Conv1d(4, 5, 4, padding="same", padding_mode="reflect"), 2, 4, 9, formula=False),
    "conv1d-same": _convolution(lambda: nn.Conv1d(4, 5, 5, padding="same"), 2, 4, 9, formula=False),
    "conv3d": _convolution(
        lambda: nn.Conv3d(4, 6, (2, 3, 2), (1, 2, 1), (1, 0, 1), dilation=(1, 1, 2), groups=2), 2, 4, 4, 7, 5,
        formula=False,
    ),
    "transposed-1d": _transposed(lambda: nn.ConvTranspose1d(6, 5, 3, stride=2, padding=1), 2, 6, 7),
    "transposed-2d": _transposed(
        lambda: nn.ConvTranspose2d(6, 4, (3, 2), (2, 1), (1, 0), groups=2, dilation=(2, 1), bias=False), 2, 6, 4, 5
    ),
    "transposed-output-padding": _transposed(
        lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), 2, 4, 4, 5, formula=False
    ),
    "transposed-wide-padding": _transposed(
        lambda: nn.ConvTranspose1d(4, 3, 2, stride=1, dilation=3, output_padding=2), 2, 4, 6, formula=False
    ),
}  # fmt: skip

HEADS = {
    "heads": Subject(lambda: nn.MultiheadAttention(16, 2, batch_first=True), signal(2, 5, 16), reference.heads, _first),
}


def router(tokens: int, experts: int, chosen: int) -> tuple[Tensor, Tensor]:
    """Experts chosen for each token, and their weights; one expert gets nothing."""
    scores = normal(tokens, experts, seed=5)
    scores[:, 1] = -9.0
    weights, index = scores.softmax(-1).topk(chosen)
    return index, weights


def _experts(path: str, config: str, **sizes: Any) -> Callable[[], nn.Module]:
    """The class ``path`` of ``transformers.models``, made from a configuration, with weights that matter."""

    def make() -> nn.Module:
        transformers = pytest.importorskip("transformers")
        made = getattr(transformers, config)(**sizes)
        made._experts_implementation = "eager"
        model, name = path.split(".")
        layer: nn.Module = getattr(import_module(f"transformers.models.{model}.modeling_{model}"), name)(made)
        for i, p in enumerate(layer.parameters()):
            p.data = 0.3 * normal(*p.shape, seed=i)
        return layer

    return make


def _routed(features: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (normal(13, features), *router(13, 4, 2))


_MIXTRAL = {"hidden_size": 16, "intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2}
_NEMOTRON = {"hidden_size": 16, "moe_intermediate_size": 24, "n_routed_experts": 4}
_ARIA = {"hidden_size": 16, "intermediate_size": 24, "moe_num_experts": 4, "num_attention_heads": 2}
EXPERTS = {
    "mixtral": Subject(_experts("mixtral.MixtralExperts", "MixtralConfig", **_MIXTRAL), _routed(16), reference.experts),
    "gpt-oss": Subject(_experts("gpt_oss.GptOssExperts", "GptOssConfig", **_MIXTRAL), _routed(16), reference.experts),
    "no gate": Subject(
        _experts("nemotron_h.NemotronHExperts", "NemotronHConfig", **_NEMOTRON), _routed(16), reference.experts
    ),
    "transposed": Subject(_experts("aria.AriaExperts", "AriaTextConfig", **_ARIA), _routed(16), reference.experts),
}


def _gpt2() -> nn.Module:
    made: nn.Module = pytest.importorskip("transformers.pytorch_utils").Conv1D(7, 12)
    return made


ZOO = {**CONVOLUTIONS, **HEADS, **EXPERTS, "gpt2-conv1d": Subject(_gpt2, signal(3, 5, 12), reference.conv1d)}
