"""A pre-norm transformer block whose seven matrix products are plain `nn.Linear` modules without bias.

Shapes: B batch, T tokens, C width, H heads, D = C / H. Nothing depends on the data's values and no buffer is written,
so the modules run under `torch.func.vmap` and in CUDA graphs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tasks.nets.activations import silu
from tasks.nets.attention import attention


def rotary_table(tokens: int, head: int, base: float = 10000.0) -> Tensor:
    """cos and sin of the rotary angles [2, tokens, head / 2] (RoFormer, arXiv 2104.09864)."""
    frequency = base ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    angle = torch.outer(torch.arange(tokens, dtype=torch.float64), frequency)
    return torch.stack([angle.cos(), angle.sin()]).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotary position embedding of x [B, H, T, D]; pairs are (i, i + D/2), as in Llama."""
    cos, sin = table[0], table[1]
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention [B, T, C] -> [B, T, C], with rotary positions where a table is given."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.o = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotary: Tensor | None = None) -> Tensor:
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for y in (self.q(x), self.k(x), self.v(x)))
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y = attention(q, k, v, self.causal)
        out: Tensor = self.o(y.transpose(-3, -2).flatten(-2))
        return out


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x), [..., C] -> [..., C] (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(silu(self.gate(x)) * self.up(x))
        return y


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, width: int, heads: int, hidden: int, causal: bool = False) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, causal)
        self.mlp_norm = nn.RMSNorm(width, eps=1e-6)
        self.mlp = SwiGLU(width, hidden)

    def forward(self, x: Tensor, rotary: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotary)
        x = x + self.mlp(self.mlp_norm(x))
        return x


def initialize(model: nn.Module, depth: int) -> None:
    """Linears ~ N(0, 1/in), those that write into the residual stream (o, down) / sqrt(2 depth) more; biases 0."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shrink = math.sqrt(2 * depth) if name.endswith((".o", ".down")) else 1.0
            nn.init.normal_(module.weight, std=1 / (math.sqrt(module.in_features) * shrink))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
