"""A Llama-style decoder: RMSNorm, rotary positions, causal attention, SwiGLU, untied head."""

from __future__ import annotations

from torch import Tensor, nn

from dse.tasks.nets.embedding import Embedding
from dse.tasks.nets.norm import RMSNorm
from dse.tasks.nets.rotary import rotary_table
from dse.tasks.nets.transformer import Block, initialize


class Llama(nn.Module):
    """Token numbers [B, T <= context] int64 -> scores [B, T, vocabulary]."""

    rotary: Tensor

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        qk_norm: bool = False,
        swiglu_limit: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed = Embedding(vocabulary, width)
        self.register_buffer("rotary", rotary_table(context, width // heads), persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, causal=True, qk_norm=qk_norm, swiglu_limit=swiglu_limit) for _ in range(depth)
        )
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        initialize(self, depth)

    def forward(self, tokens: Tensor) -> Tensor:
        rotary = self.rotary[:, : tokens.shape[-1]]
        x, branch = self.embed(tokens), None
        for block in self.blocks:
            x, branch = block(x, branch, rotary)
        scores: Tensor = self.head(self.norm.add(x, branch)[1])
        return scores
