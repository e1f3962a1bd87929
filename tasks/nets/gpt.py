"""nanoGPT's character model: GPT-2's decoder without biases (github.com/karpathy/nanoGPT).

LayerNorm with a scale alone, learned positions, GELU, the head tied to the embedding; all matrices ~ N(0, .02²), those
that write into the residual stream / √(2 depth).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dse.tasks.nets.activations import gelu
from dse.tasks.nets.attention import Core
from dse.tasks.nets.dropout import dropout, mask
from dse.tasks.nets.embedding import Embedding
from dse.tasks.nets.norm import LayerNorm


class GptBlock(nn.Module):
    """x + attention(norm x), then x + down(gelu(up(norm x))); `place`: number of the first of its three dropouts.

    The stream x and a branch that is to be added to it -> such a pair, as in `dse.tasks.nets.transformer.Block`.
    """

    def __init__(self, width: int, heads: int, p: float, place: int) -> None:
        super().__init__()
        self.heads, self.p, self.place = heads, p, place
        self.attention_norm = LayerNorm(width, bias=False)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.core = Core()
        self.mlp_norm = LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, branch: Tensor | None, clock: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, several = self.attention_norm.fan(x, branch, 3)
        projected = (z(y) for z, y in zip((self.q, self.k, self.v), several, strict=True))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for y in projected)
        kept = None
        if clock is not None and self.p:
            kept = mask(clock, self.p, self.place, (*q.shape[:-1], k.shape[-2]))
        y = self.core(q, k, v, True, kept).transpose(-3, -2).flatten(-2)
        x, y = self.mlp_norm.add(x, dropout(self.o(y), self.p, clock, self.place + 1))
        y = self.down(gelu(self.up(y)))
        return x, dropout(y, self.p, clock, self.place + 2)


class Gpt(nn.Module):
    """Token numbers [B, T <= context] int64 -> scores [B, T, vocabulary].

    With `p` > 0 and a `clock` int64 [2] (seed, step) it drops embeddings, attention weights and both residual branches
    as GPT-2 does; without a clock nothing is dropped.
    """

    def __init__(self, vocabulary: int, context: int, width: int, depth: int, heads: int, p: float = 0.0) -> None:
        super().__init__()
        self.p = p
        self.embed = Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(GptBlock(width, heads, p, 1 + 3 * i) for i in range(depth))
        self.norm = LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                shrink = math.sqrt(2 * depth) if name.endswith((".o", ".down")) else 1.0
                nn.init.normal_(module.weight, std=0.02 / shrink)
        self.embed.weight = self.head.weight

    def forward(self, tokens: Tensor, clock: Tensor | None = None) -> Tensor:
        x = self.embed(tokens) + self.position[: tokens.shape[-1]]
        x = dropout(x, self.p, clock, 0)
        branch = None
        for block in self.blocks:
            x, branch = block(x, branch, clock)
        scores: Tensor = self.head(self.norm.add(x, branch)[1])
        return scores
