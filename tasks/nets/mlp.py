"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dse.tasks.nets.activations import gelu


class Mlp(nn.Module):
    """[B, widths[0]] -> [B, outputs]: GELU between linears with bias; the last linear is `head`."""

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = gelu(layer(x))
        y: Tensor = self.head(x)
        return y
