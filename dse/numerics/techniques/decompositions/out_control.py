"""OutControl: the input channels with the largest norms are multiplied in FP8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.kernels.sqrt import sqrt
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E4M3, E8M0
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantizer
from dse.numerics.techniques.decompositions.base import Decomposition, Kept, SplitProduct, Term
from dse.numerics.techniques.rounding import AwayFromZero
from dse.numerics.tree import total

MXFP8 = BlockQuantizer(E4M3, E8M0, 32, scale_rounding=AwayFromZero())
_BITS = 16


@dataclass(frozen=True)
class OutControl(Decomposition):
    """Y = Q(X_c) Q(W_c)^T + P(X_h) P(W_h)^T: H are the channels (columns of X and W) of largest norm, C the rest.

    n_k = sum over steps ``start`` .. ``start`` + ``track`` - 1 of ||X_k||_2, the norm of channel k over the tokens of a
    forward pass. From step ``start`` + ``track`` on, and for good, H is the round(``share`` K) channels of largest n_k;
    C are put in order of falling n_k before they are cut into blocks. dW's columns of C are Q(G^T) Q(X_c^T)^T, those of
    H P(G^T) P(X_h^T)^T, not rotated; dX is a product of G and the whole W by dgrad's own quantizers. Before H is
    chosen nothing is split. ``outer``: the quantizer P, MXFP8 with scales rounded up unless it is set.

    State: ``norms`` float32 [..., K], ``chosen`` bool [..., 1]. Cost: X and W are gathered for fprop (1 per element and
    a pass each), the share of fprop and wgrad in P's format; norms in ``track`` steps alone, not counted.
    Source: arXiv 2510.27527 (TetraJet-v2), OutControl, and its code (thu-ml): share .1, steps 501 to 550 of 12,500 to
    50,500. The released kernels round the number of channels up to a multiple of 128; this is the paper's. Raises
    OptionError unless 0 < share < 1, start >= 0 and track >= 1, and for an outer quantizer that draws or holds.
    """

    splits: ClassVar[tuple[str, ...]] = ("fprop", "wgrad")

    share: float = 0.1
    start: int = 501
    track: int = 50
    outer: Quantizer = MXFP8

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise OptionError(f"out_control.share must lie between 0 and 1, not {self.share}")
        if self.start < 0 or self.track < 1:
            raise OptionError(f"out_control needs start >= 0 and track >= 1, not {self.start} and {self.track}")
        if self.outer.random_bits or self.outer.remembers or not self.outer.straight_through:
            raise OptionError("out_control.outer must be deterministic, straight-through, and hold nothing")

    def state(self, w: Tensor) -> dict[str, Tensor]:
        norms = torch.zeros(w.shape[-1], device=w.device)
        return {"norms": norms, "chosen": torch.zeros(1, dtype=torch.bool, device=w.device)}

    def observe(self, x: Tensor, w: Tensor, kept: Kept) -> None:
        norms, chosen = kept.tensors["norms"], kept.tensors["chosen"]
        step = kept.key.clock[..., 1, None]
        tracked = (step >= self.start) & (step < self.start + self.track)
        if tracked.device.type != "cpu" or bool(tracked.any()):  # a GPU is not waited for
            own = sqrt(total(x.float().square(), (-2,))).squeeze(-2)
            norms.add_(torch.where(tracked, own, 0.0))
        chosen.logical_or_((step >= self.start + self.track) & (norms > 0).any(-1, keepdim=True))

    def fprop(self, x: Tensor, w: Tensor, kept: Kept) -> SplitProduct:
        order, hot = self._order(kept)
        (lhs, left), (rhs, right) = (self._split(t, order, hot, kept) for t in (x, w))
        return SplitProduct(lhs, rhs, (Term(left, right),))

    def wgrad(self, g: Tensor, x: Tensor, kept: Kept) -> SplitProduct:
        order, hot = self._order(kept)
        chosen, places = kept.tensors["chosen"], order[..., order.shape[-1] - hot :]
        mask = torch.zeros_like(order, dtype=torch.bool).scatter(-1, places, chosen.expand_as(places))
        loud = torch.where(chosen[..., None], _gathered(x, places).mT, 0.0)
        term = Term(self._outer(g.mT, kept), self._outer(loud, kept), places)
        return SplitProduct(g.mT, torch.where(mask[..., None], 0.0, x.mT), (term,))

    def copies(self, parts: SplitProduct, x: Tensor, w: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
        order, hot = self._order(kept)
        (left, right, _), *_ = parts.terms
        assert left is not None
        chosen = kept.tensors["chosen"][..., None, :]

        def whole(quiet: Tensor, loud: Tensor) -> Tensor:
            edge = quiet.shape[-1] - hot
            arranged = torch.cat([quiet[..., :edge], torch.where(chosen, loud, quiet[..., edge:])], -1)
            return torch.empty_like(arranged).scatter_(-1, _places(order, arranged), arranged)

        return whole(x, left), whole(w, right)

    def point_ops(self, point: str) -> Ops | None:
        if point not in ("fprop.lhs", "fprop.rhs"):
            return None
        return Ops(element=1, reads=1, why="channels gathered, 1/element and a pass")

    def wider(self, gemm: str) -> tuple[float, int]:
        bits = self.outer.element.bits if isinstance(self.outer, BlockQuantizer) else _BITS
        return (self.share if gemm in self.splits else 0.0), bits

    def _order(self, kept: Kept) -> tuple[Tensor, int]:
        """The channels int64 [..., K], those of C in order, then H (as they are before H is chosen); and how many H."""
        norms = kept.tensors["norms"]
        width = norms.shape[-1]
        hot = int(self.share * width + 0.5)
        falling = torch.argsort(norms, stable=True, descending=True)
        ordered = torch.cat([falling[..., hot:], falling[..., :hot]], -1)
        plain = torch.arange(width, device=norms.device)
        return torch.where(kept.tensors["chosen"], ordered, plain), hot

    def _split(self, t: Tensor, order: Tensor, hot: int, kept: Kept) -> tuple[Tensor, Tensor]:
        """The operand in order with zeros at the places of H, and P of its channels H; all and zeros before."""
        chosen, edge = kept.tensors["chosen"][..., None, :], order.shape[-1] - hot
        arranged = _gathered(t, order)
        last = torch.arange(order.shape[-1], device=t.device) >= edge
        quiet = torch.where(chosen & last, 0.0, arranged)
        return quiet, self._outer(torch.where(chosen, arranged[..., edge:], 0.0), kept)

    def _outer(self, t: Tensor, kept: Kept) -> Tensor:
        return self.outer(t, kept.key).dequantize()


def _places(order: Tensor, t: Tensor) -> Tensor:
    """The places [..., n] of channels for each row of [..., R, n]."""
    return order[..., None, :].expand(*t.shape[:-1], order.shape[-1])


def _gathered(t: Tensor, places: Tensor) -> Tensor:
    """Columns of t [..., R, K] at the places [..., n]: [..., R, n]."""
    return t.gather(-1, _places(places, t))


__all__ = ["MXFP8", "OutControl"]
