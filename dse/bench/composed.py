"""A task's model as a user of torch.compile would have it: torch's own operations, and few, wide products.

The tasks' networks call kernels of this project on a GPU and keep the query, key and value projections apart, as a
recipe names them. Here norms, SwiGLU and rotary positions are plain torch, which Inductor fuses, attention is torch's
(flash) kernel, and projections of one input are one product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.tasks.nets.embedding import Embedding
from dse.tasks.nets.members import each
from dse.tasks.nets.norm import RMSNorm
from dse.tasks.nets.rotary import rotate
from dse.tasks.nets.transformer import SelfAttention, SwiGLU


def composed(model: nn.Module) -> nn.Module:
    """Changes the model in place, and returns it."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SelfAttention):
                setattr(parent, name, MergedAttention(child))
            elif isinstance(child, SwiGLU):
                setattr(parent, name, MergedSwiGLU(child))
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.__class__ = TorchNorm
        elif isinstance(module, Embedding):
            module.__class__ = nn.Embedding  # type: ignore[assignment]
    return model


class TorchNorm(RMSNorm):
    """RMSNorm from torch's operations: statistics in FP32, the result in the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        y = wide * (wide.square().mean(-1, keepdim=True) + self._eps).rsqrt()
        return (y * self.weight if self.elementwise_affine else y).to(x.dtype)

    def _fused(self, *operands: Tensor | None) -> bool:
        return False


class MergedAttention(nn.Module):
    """Self-attention [B, T, C] -> [B, T, C] with one projection to queries, keys and values."""

    def __init__(self, plain: SelfAttention) -> None:
        super().__init__()
        self.heads, self.causal = plain.heads, plain.causal
        self.qkv, self.o = _merged(plain.q, plain.k, plain.v), plain.o
        self.q_norm, self.k_norm = plain.q_norm, plain.k_norm

    def forward(self, x: Tensor | tuple[Tensor, ...], rotary: Tensor | None = None) -> Tensor:
        projected = self.qkv(each(x, 1)[0]).chunk(3, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for y in projected)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y: Tensor = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.o(y.transpose(-3, -2).flatten(-2))
        return out


class MergedSwiGLU(nn.Module):
    """down(silu(gate x) * up x) with one projection to both factors."""

    def __init__(self, plain: SwiGLU) -> None:
        super().__init__()
        self.gate_up, self.down = _merged(plain.gate, plain.up), plain.down

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor:
        gate, up = self.gate_up(each(x, 1)[0]).chunk(2, -1)
        y: Tensor = self.down(F.silu(gate) * up)
        return y


def _merged(*linears: nn.Linear) -> nn.Linear:
    """One linear whose outputs are those of all, one after another."""
    first = linears[0]
    made = nn.Linear(first.in_features, sum(one.out_features for one in linears), first.bias is not None, device="meta")
    made.weight = nn.Parameter(torch.cat([one.weight.detach() for one in linears]))
    if first.bias is not None:
        made.bias = nn.Parameter(torch.cat([one.bias.detach() for one in linears]))
    return made
