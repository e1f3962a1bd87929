"""The format of activations between the layers of a pack, and what follows from it for parameters and linears.

What is BF16 under ``training.activations: bf16``: what linears take and give, and with it the residual stream, norms'
outputs, and the gradients of all of these; the working copies of parameters that belong to no linear and no ``Masters``
module (positions). What stays FP32: parameters (master weights) and their gradients, which linears, embeddings and
norms sum in FP32; sums, statistics and softmax inside of an operation; the loss, from outputs that are widened first;
optimizer, loss scaling and held tensor scales. A linear's W is quantized from the FP32 weight, and a linear that no
recipe quantizes computes as under the recipe ``bf16``, as the output head does in published systems.

So it is in published FP4 training. NVFP4 (arXiv 2509.25149, Sec. 4): embeddings, head, norms and attention in BF16 or
FP32; FP32 main weights, weight gradients and optimizer states. Megatron-LM: the residual stream is BF16
(``fp32_residual_connection`` is off), gradients are accumulated in FP32 (``main_grad``). Two things differ there:
its optimizer keeps BF16 copies of all parameters, from which W is quantized (unless ``fp8_param_gather``), and norms
read their scale from such a copy; here, as under torch.autocast, norms read the FP32 scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dse.numerics.recipe import Recipe
from dse.pack.segmentation import PLAIN
from dse.recipes.bf16 import BF16
from dse.tasks.nets.masters import Masters


@dataclass(frozen=True)
class LayerPrecision:
    """What a linear layer of a pack computes with besides its members' recipes.

    ``dtype``: of X and Y, and of their gradients; ``plain``: the recipe of members whose own leaves the layer alone;
    ``baseline``: what the recipe ``bf16`` computes here.
    """

    dtype: torch.dtype = torch.float32
    plain: Recipe = PLAIN
    baseline: Recipe = PLAIN

    @classmethod
    def of(cls, activations: str, rounded: bool) -> LayerPrecision:
        """Under ``training.activations``; ``rounded``: whether the recipe ``bf16`` chooses the layer."""
        if activations == "bf16":
            return cls(torch.bfloat16, BF16, BF16)
        return cls(baseline=BF16 if rounded else PLAIN)


_IN_FP32 = (nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
"""Torch's modules that compute in FP32 with their FP32 parameters, as under torch.autocast, and return BF16."""


class WorkingParameters:
    """What a model computes with: its FP32 parameters, and BF16 copies of some where activations are BF16.

    ``linears``: the type of its linears, whose parameters are used as they are, besides those of embeddings and norms:
    modules of type ``Masters``, and torch's own, which get hooks that convert their inputs and outputs.
    """

    def __init__(self, model: nn.Module, linears: type[nn.Module], activations: str) -> None:
        self.dtype = torch.bfloat16 if activations == "bf16" else torch.float32
        known: dict[int, str] = {}
        self._uses: list[tuple[str, str, bool]] = []
        for module_name, module in model.named_modules():
            own = isinstance(module, (linears, Masters, *_IN_FP32))
            if activations == "bf16" and not isinstance(module, linears):
                _convert(module)
            for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
                first = known.setdefault(id(parameter), name)
                self._uses.append((name, first, own or not parameter.is_floating_point()))

    def of(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        """Stacked parameters by name -> what each use of them computes with, by all names of tied ones."""
        copies: dict[str, Tensor] = {}
        for _, first, own in self._uses:
            if not own and first not in copies:
                copies[first] = parameters[first].to(self.dtype)
        return {name: parameters[first] if own else copies[first] for name, first, own in self._uses}


def _convert(module: nn.Module) -> None:
    """Lets an embedding or a norm compute in FP32 and return BF16, and another of torch's modules compute in BF16."""
    if isinstance(module, Masters):
        module.activations = torch.bfloat16
    elif isinstance(module, _IN_FP32):
        module.register_forward_pre_hook(lambda _, inputs: tuple(map(widened, inputs)))
        module.register_forward_hook(lambda *call: call[-1].bfloat16())
    elif type(module).__module__.startswith("torch.nn.") and module._parameters:
        module.register_forward_pre_hook(lambda _, inputs: tuple(map(_narrow, inputs)))


def widened(y: Any) -> Any:
    """A model's BF16 output in FP32, for the loss; anything else as it is."""
    return y.float() if isinstance(y, Tensor) and y.dtype == torch.bfloat16 else y


def _narrow(x: Any) -> Any:
    """A module's FP32 input in BF16; anything else as it is."""
    return x.bfloat16() if isinstance(x, Tensor) and x.dtype == torch.float32 else x


__all__ = ["LayerPrecision", "WorkingParameters", "widened"]
