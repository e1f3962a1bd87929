"""The quantized form of GPT-2's ``Conv1D``, a linear layer that keeps its weight as [in, out]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from dse.nn.linear import quantized_linear
from dse.nn.quantized_layer import QuantizedLayer, check_input
from dse.nn.uncompiled import uncompiled


class QuantizedConv1D(QuantizedLayer, Conv1D):  # type: ignore[misc]
    """Takes the place of ``transformers.pytorch_utils.Conv1D``: Y = X W + b, x [..., K] -> [..., N], weight [K, N].

    The same numerics as a quantized linear of W^T.
    """

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.mT

    def as_weight(self, matrix: Tensor) -> Tensor:
        return matrix.mT

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        w = self.matrix
        if x.is_meta:
            return F.linear(x, w, self.bias)
        check_input(self, x, -1, w.shape[1], range(1, 65))
        return quantized_linear(x, w, self.bias, self.active_recipe, self.context(x))

    def __repr__(self) -> str:
        return f"QuantizedConv1D(nf={self.nf}, nx={self.nx}, recipe={self.recipe.name!r})"


__all__ = ["QuantizedConv1D"]
