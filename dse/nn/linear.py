"""The quantized linear and 2-D convolution: a plain layer's weights, computed under a recipe."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dse.nn.quantized_layer import QuantizedLayer, check_input
from dse.nn.uncompiled import uncompiled
from dse.nn.unfold import Window, images, memory_format, patches
from dse.numerics.autocast import output_dtype
from dse.numerics.linear_autograd import linear
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.recipe import Recipe


def quantized_linear(x: Tensor, w: Tensor, bias: Tensor | None, recipe: Recipe, context: LinearContext) -> Tensor:
    """Y = X W^T + bias under a recipe: x [..., K], w [N, K], bias [N] -> [..., N].

    Leading axes of x are tokens. Operands shorter than FP32 (a model in BF16) are computed in FP32, and Y returns to
    X's dtype, or autocast's. Source: arXiv 2509.17791, Sec. 2.
    """
    rows = x.reshape(-1, x.shape[-1])
    product = linear(rows, w, recipe, context)
    y: Tensor = torch.ops.aten._unsafe_view(product, (*x.shape[:-1], w.shape[0]))
    return (y if bias is None else y + bias).to(output_dtype(x))  # no view of something, as F.linear's is none


class QuantizedLinear(QuantizedLayer, nn.Linear):
    """An ``nn.Linear`` that computes under a recipe; see ``QuantizedLayer`` for what it keeps.

    Raises RuntimeError for an input of another width, as ``nn.Linear`` does, and for one of integers.
    """

    @uncompiled
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the plain layer's keyword
        x = input
        if x.is_meta:
            return nn.Linear.forward(self, x)
        check_input(self, x, -1, self.in_features, range(1, 65))
        return quantized_linear(x, self.matrix, self.bias, self.active_recipe, self.context(x))

    def extra_repr(self) -> str:
        return f"{nn.Linear.extra_repr(self)}, recipe={self.recipe.name!r}"


class QuantizedConv2d(QuantizedLayer, nn.Conv2d):
    """The same for an ``nn.Conv2d``: a linear over unfolded patches, [B, C, H, W] or [C, H, W] -> [(B,) O, H', W'].

    Blocks lie along the contraction axis C * kh * kw; G and dW contract over output channels and pixels of the batch.
    """

    @property
    def window(self) -> Window:
        """How the kernel moves."""
        return Window.of(self)

    @uncompiled
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the plain layer's keyword
        x = input
        if x.is_meta:
            return nn.Conv2d.forward(self, x)
        check_input(self, x, -3, self.in_channels, (3, 4))
        batch, window = (x if x.dim() == 4 else x.unsqueeze(0)), self.window
        rows = quantized_linear(patches(batch, window), self.matrix, self.bias, self.active_recipe, self.context(x))
        y = images(rows, window.places(*x.shape[-2:])).clone(memory_format=memory_format(batch, self.weight))
        return y if x.dim() == 4 else y.squeeze(0)

    def extra_repr(self) -> str:
        return f"{nn.Conv2d.extra_repr(self)}, recipe={self.recipe.name!r}"
