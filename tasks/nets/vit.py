"""A vision transformer for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dse.tasks.nets.norm import RMSNorm
from dse.tasks.nets.patches import patchify
from dse.tasks.nets.transformer import Block, initialize


class Vit(nn.Module):
    """Images [B, (channels,) S, S] -> class scores [B, classes]: patches, blocks, the mean over tokens, `head`."""

    def __init__(
        self, side: int, patch: int, width: int, depth: int, heads: int, hidden: int, classes: int, channels: int = 1
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(channels * patch * patch, width, bias=False)
        self.position = nn.Parameter(0.5 * torch.randn((side // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, classes)
        initialize(self, depth)

    def forward(self, x: Tensor) -> Tensor:
        x, branch = self.embed(patchify(x, self.patch)) + self.position, None
        for block in self.blocks:
            x, branch = block(x, branch)
        scores: Tensor = self.head(self.norm.add(x, branch)[1].mean(-2))
        return scores
