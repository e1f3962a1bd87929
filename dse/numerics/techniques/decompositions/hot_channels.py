"""Hot-channel patch: what quantization took from the channels with the largest errors is added again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.ops import Ops
from dse.numerics.quantizer import BFloat16
from dse.numerics.techniques.decompositions.base import DecodedOperands, Decomposition, Kept, SplitProduct, Term
from dse.numerics.tree import total

_BF16 = BFloat16()


@dataclass(frozen=True)
class HotChannels(Decomposition):
    """Y = Q(X) Q(W)^T + dX_I Q(W)_I^T + Q(X)_I dW_I^T, dX = X - Q(X), dW = W - Q(W): I are the hot channels.

    What is left of the error in I is the second order, -dX_I dW_I^T. I is the round(``share`` K) channels (columns of X
    and W) of largest s_k = mean_t |dX_tk| + mean_n |dW_nk|, measured in the forward passes of steps 0, ``every``, 2
    ``every`` ... and held in between, so that a hot channel stays one. Errors and operands of the terms are BF16. Both
    backward GEMMs are left whole. Before the first measurement nothing is patched.

    State: ``scores`` float32 [..., K]. Cost: errors of X and W, 2 per element; terms with 2 ``share`` K columns; scores
    in one of ``every`` steps, not counted. Source: arXiv 2602.02047 (CHON), Hot-Channel Patch as one product of second
    order for both operands; known from its abstract and a secondary summary, which state neither the share of channels
    nor how often they are chosen anew: both defaults are ours. Raises OptionError unless 0 < share < 1 and every >= 1.
    """

    splits: ClassVar[tuple[str, ...]] = ("fprop",)
    corrects: ClassVar[bool] = True
    turns: ClassVar[bool] = False
    narrow: ClassVar[bool] = True
    pairs: ClassVar[bool] = True

    share: float = 0.05
    every: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise OptionError(f"hot_channels.share must lie between 0 and 1, not {self.share}")
        if self.every < 1:
            raise OptionError(f"hot_channels.every must be at least 1, not {self.every}")

    def state(self, w: Tensor) -> dict[str, Tensor]:
        return {"scores": torch.zeros(w.shape[-1], device=w.device)}

    def corrections(self, gemm: str, parts: SplitProduct, operands: DecodedOperands, kept: Kept) -> tuple[Term, ...]:
        errors = parts.lhs - operands.lhs, parts.rhs - operands.rhs
        if kept.key.sampling:
            self._measure(errors, kept)
        scores = kept.tensors["scores"]
        hot = torch.argsort(scores, stable=True, descending=True)[..., : int(self.share * scores.shape[-1] + 0.5)]
        patched = (scores > 0).any(-1)[..., None, None]
        (dx, dw), (x, w) = ([_rounded(t, hot) for t in pair] for pair in (errors, (operands.lhs, operands.rhs)))
        left = torch.where(patched, torch.cat([dx, x], -1), 0.0)
        return (Term(left, torch.cat([w, dw], -1)),)

    def point_ops(self, point: str) -> Ops | None:
        if point not in ("fprop.lhs", "fprop.rhs"):
            return None
        return Ops(element=2, why="the error, 2/element")

    def term_flop(self, gemm: str, m: int, k: int, n: int) -> float:
        return 2.0 * m * n * 2 * self.share * k if gemm == "fprop" else 0.0

    def _measure(self, errors: tuple[Tensor, Tensor], kept: Kept) -> None:
        """Holds new scores where they are due, or where none are held."""
        scores = kept.tensors["scores"]
        due = (kept.key.clock[..., 1, None] % self.every == 0) | ~(scores > 0).any(-1, keepdim=True)
        if due.device.type == "cpu" and not bool(due.any()):  # a GPU is not waited for
            return
        dx, dw = (total(t.abs(), (-2,)).squeeze(-2) * (1 / max(1, t.shape[-2])) for t in errors)
        fresh = (dx + dw).to(scores.dtype)
        scores.copy_(torch.where(due & fresh.isfinite().all(-1, keepdim=True), fresh, scores))


def _rounded(t: Tensor, channels: Tensor) -> Tensor:
    """Columns of t [..., R, K] in BF16: [..., R, n]."""
    own = t.gather(-1, channels[..., None, :].expand(*t.shape[:-1], channels.shape[-1]))
    return _BF16(own).dequantize()


__all__ = ["HotChannels"]
