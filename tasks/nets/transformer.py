"""A pre-norm transformer block whose seven matrix products are plain `nn.Linear` modules without bias.

Shapes: B batch, T tokens, C width, H heads, D = C / H. Nothing depends on the data's values and no buffer is written,
so the modules run under `torch.func.vmap` and in CUDA graphs.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from dse.tasks.nets.activations import gated
from dse.tasks.nets.attention import Core
from dse.tasks.nets.heads import multihead
from dse.tasks.nets.members import each
from dse.tasks.nets.norm import RMSNorm


class SelfAttention(nn.Module):
    """Multi-head self-attention [B, T, C] -> [B, T, C], with rotary positions where a table is given.

    The input may be three equal tensors, one for each of queries, keys and values (`RMSNorm.fan`).
    `qk_norm`: queries and keys pass an RMSNorm of their own, before they are rotated (arXiv 2302.05442).
    """

    def __init__(self, width: int, heads: int, causal: bool = False, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.core = Core()
        self.q_norm = RMSNorm(width // heads) if qk_norm else None
        self.k_norm = RMSNorm(width // heads) if qk_norm else None

    def forward(self, x: Tensor | tuple[Tensor, ...], rotary: Tensor | None = None) -> Tensor:
        x, to_k, to_v = each(x, 3)
        q, k = self.q(x), self.k(to_k)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = (n(y.unflatten(-1, (self.heads, -1))).flatten(-2) for n, y in ((self.q_norm, q), (self.k_norm, k)))
        y: Tensor = self.o(multihead(self.core, q, k, self.v(to_v), self.heads, rotary, self.causal))
        return y


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x), [..., C] -> [..., C] (arXiv 2002.05202); x may be two equal tensors, one for each.

    `limit`: gate x is at most that, and up x between -limit and limit, in DeepSeek-V4 10; 0: no bound. What is beyond
    a bound has no gradient. Cost: 2 comparisons per element of each, in passes of their own.
    """

    def __init__(self, width: int, hidden: int, limit: float = 0.0) -> None:
        super().__init__()
        self.limit = limit
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor:
        x, to_up = each(x, 2)
        gate, up = self.gate(x), self.up(to_up)
        if self.limit:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        y: Tensor = self.down(gated(gate, up))
        return y


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x), for which a kernel adds and normalizes at once.

    So a block leaves the last sum to whoever normalizes next: the stream x [B, T, C] and a branch [B, T, C] that is to
    be added to it (None before the first block) -> such a pair.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        causal: bool = False,
        qk_norm: bool = False,
        swiglu_limit: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(width, heads, causal, qk_norm)
        self.mlp_norm = RMSNorm(width)
        self.mlp = SwiGLU(width, hidden, swiglu_limit)

    def forward(self, x: Tensor, branch: Tensor | None, rotary: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, several = self.attention_norm.fan(x, branch, 3)
        x, several = self.mlp_norm.fan(x, self.attention(several, rotary), 2)
        return x, self.mlp(several)


def initialize(model: nn.Module, depth: int) -> None:
    """Linears ~ N(0, 1/in), those that write into the residual stream (o, down) / sqrt(2 depth) more; biases 0."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shrink = math.sqrt(2 * depth) if name.endswith((".o", ".down")) else 1.0
            nn.init.normal_(module.weight, std=1 / (math.sqrt(module.in_features) * shrink))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
