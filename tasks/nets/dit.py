"""A diffusion transformer for small images (DiT, arXiv 2212.09748)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dse.tasks.nets.activations import silu
from dse.tasks.nets.norm import RMSNorm
from dse.tasks.nets.patches import patchify, unpatchify
from dse.tasks.nets.transformer import SelfAttention, SwiGLU, initialize


class DitBlock(nn.Module):
    """A transformer block whose norms and residuals are scaled and shifted by the noise level's embedding.

    The modulation starts at zero, and multiplies by 1 + its output everywhere: at first the block is a plain one
    (DiT starts from gates of 0 instead, which wastes the first part of a run of a hundred steps).
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        self.attention_norm = RMSNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp_norm = RMSNorm(width, elementwise_affine=False)
        self.mlp = SwiGLU(width, hidden)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(level).unsqueeze(-2).chunk(6, dim=-1)
        x = x + (1 + gate1) * self.attention(self.attention_norm(x) * (1 + scale1) + shift1)
        x = x + (1 + gate2) * self.mlp(self.mlp_norm(x) * (1 + scale2) + shift2)
        return x


class Dit(nn.Module):
    """Images [B, S, S] or [B, channels, S, S], noise levels [B] (of order 1) -> such images, 0 at initialization."""

    frequency: Tensor

    def __init__(
        self, side: int, patch: int, width: int, depth: int, heads: int, hidden: int, channels: int = 1
    ) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        self.embed = nn.Linear(channels * patch * patch, width, bias=False)
        self.position = nn.Parameter(0.5 * torch.randn((side // patch) ** 2, width))
        self.register_buffer("frequency", torch.randn(width // 2) * 2.0)
        self.level = nn.Linear(width, width)
        self.blocks = nn.ModuleList(DitBlock(width, heads, hidden) for _ in range(depth))
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, channels * patch * patch)
        initialize(self, depth)
        nn.init.zeros_(self.head.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("modulation.weight"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        angle = level.unsqueeze(-1) * self.frequency
        c = silu(self.level(torch.cat([angle.cos(), angle.sin()], dim=-1)))
        x = self.embed(patchify(x, self.patch)) + self.position
        for block in self.blocks:
            x = block(x, c)
        return unpatchify(self.head(self.norm(x)), self.patch, self.channels)
