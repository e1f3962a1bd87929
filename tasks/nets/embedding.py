"""Embedding as torch has it; on a GPU its gradient is one kernel that gives a member the same bits in any pack."""

from __future__ import annotations

from torch import Tensor, nn

from dse.tasks.nets import fused
from dse.tasks.nets.fused.embed import embed
from dse.tasks.nets.masters import Masters


class Embedding(Masters, nn.Embedding):
    """Token numbers [..., T] -> rows of a learned table [..., T, width], in the format of activations.

    The gradient is summed in FP32. Torch's own on a GPU sums by another routine once there are more than 3,072 tokens,
    members of a pack together.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        dtype = self.activations or self.weight.dtype
        return embed(self.weight, tokens, dtype) if fused.usable(self.weight) else super().forward(tokens).to(dtype)
