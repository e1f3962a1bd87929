"""Outliers of twice the bits in the places of weights that are pruned for them: MicroScopiQ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import erfc, log2, sqrt
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.damped_inverse import damped_inverse
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.formats import E2M1, E4M3, Format
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.techniques.scale_searches.base import ScaleSearch

_WIDER = {2: E2M1, 4: E4M3}


@dataclass(frozen=True)
class MicroScopiQ(ScaleSearch):
    """Outliers, |w - mean| > ``sigmas`` deviations of their block, get a wider format, and as many inliers become 0.

    Blocks are the recipe's (macro-blocks of 128 in the paper), whose format and scale are those of the inliers alone.
    In every micro-block of ``micro`` weights the outliers are of the format ``outliers``, with twice the inliers' bits,
    under a scale of their own, by OCP's rule: Z over the format's largest power of two, in the recipe's scale format.
    The second half of an outlier's bits lies where an inlier was: the inliers of the micro-block with the smallest
    w_j^2 / [H^-1]_jj become 0, H = X^T X + d I, d ``damping`` times the mean of its diagonal. A micro-block has half as
    many outliers as weights at most, the largest; others are inliers. All of this is decided by W before anything is
    rounded; ``gptq`` then makes up for rounding and pruning. ``outliers`` none: E4M3 for 4 bits, E2M1 for 2.

    The released code finds outliers and pruned weights a column at a time in weights that GPTQ has changed, takes
    blocks along the outputs and prunes wherever in the column; here it is the paper's layout, along the inputs. Of the
    paper's text not all was to be had: the measure of importance is optimal brain surgeon's, and half a micro-block's
    outliers at most and the count of bits are ours.

    Cost: a scale, and a list of micro / 2 pairs of places, for a micro-block with outliers (4 bytes for 8 weights), and
    a bit that says so for each. Hardware puts an outlier's halves together after the product; that is not counted.
    Source: arXiv 2411.05282 (MicroScopiQ), and the formats of its released code. Raises OptionError unless sigmas is
    positive, micro a power of two from 2 on, and damping at least 0 and finite.
    """

    sigmas: float = 3.0
    micro: int = 8
    outliers: Format | None = None
    damping: float = 0.01
    grids: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.sigmas < float("inf"):
            raise OptionError(f"microscopiq.sigmas must be positive and finite, not {self.sigmas}")
        if self.micro < 2 or self.micro & (self.micro - 1):
            raise OptionError(f"microscopiq.micro must be a power of two from 2 on, not {self.micro}")
        if not 0 <= self.damping < float("inf"):
            raise OptionError(f"microscopiq.damping must be at least 0 and finite, not {self.damping}")

    @property
    def data(self) -> bool:
        return True

    def check(self, quantizer: BlockQuantizer) -> None:
        super().check(quantizer)
        for name, plain in (("tile", 1), ("tensor_scale", None), ("micro_exponents", ()), ("gain", 1.0)):
            if getattr(quantizer, name) != plain:
                raise OptionError(
                    "post.scales: microscopiq has one scale per block of inliers and one per micro-block of outliers; "
                    f"leave fprop.rhs.{name} at its default"
                )
        if quantizer.block % self.micro:
            raise OptionError(
                f"post.scales: blocks consist of whole micro-blocks; fprop.rhs.block is {quantizer.block} and "
                f"microscopiq.micro {self.micro}"
            )
        bits, wider = 2 * quantizer.element.bits, self._wider(quantizer)
        if wider is None or wider.bits != bits:
            raise OptionError(
                f"post.scales: outliers have twice the bits of fprop.rhs.element, {bits}, and microscopiq.outliers is "
                + ("none" if wider is None else wider.name)
            )

    def beside(self, quantizer: BlockQuantizer, outputs: int, inputs: int) -> int:
        """Of normal weights."""
        share = 1 - (1 - erfc(self.sigmas / sqrt(2))) ** self.micro
        return self._bits(quantizer, outputs * -(-inputs // self.micro), share)

    def stored(self, quantizer: BlockQuantizer, w: Tensor) -> int:
        found = self._found(quantizer, w).any(-1)
        return self._bits(quantizer, found.numel(), float(found.double().mean()))

    def scales(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics | None) -> FixedScales:
        assert inputs is not None
        wider = self._wider(quantizer)
        assert wider is not None
        found = self._found(quantizer, w)
        inverse = damped_inverse(inputs.gram, self.damping, "microscopiq", "post.scales.damping").diagonal()
        pruned = self._pruned(self._micro_blocks(w.double().square() / inverse, torch.inf), found)
        outlying, gone = (part.flatten(1)[:, : w.shape[1]] for part in (found, pruned))
        fine = replace(quantizer, element=wider, block=self.micro, constant=2.0**wider.emax)
        inliers = FixedScales.of(quantizer, w.masked_fill(outlying, 0.0))
        outliers = FixedScales.of(fine, w.masked_fill(~outlying, 0.0))
        both = replace(inliers, elements=(quantizer.element, wider))
        both = both.where(outlying, replace(outliers, chosen=torch.ones_like(outliers.chosen)))
        return replace(both, decode=both.decode.masked_fill(gone, 0.0))

    def _wider(self, quantizer: BlockQuantizer) -> Format | None:
        return self.outliers or _WIDER.get(quantizer.element.bits)

    def _bits(self, quantizer: BlockQuantizer, parts: int, share: float) -> int:
        places = self.micro // 2 * 2 * int(log2(self.micro))
        return round(parts * (1 + share * (8 * -(-quantizer.scale.bits // 8) + places)))

    def _micro_blocks(self, w: Tensor, filled: float) -> Tensor:
        """[N, K] -> [N, K / micro, micro], the last one filled up."""
        return pad(w, (0, -w.shape[1] % self.micro), value=filled).reshape(len(w), -1, self.micro)

    def _found(self, quantizer: BlockQuantizer, w: Tensor) -> Tensor:
        """Which weights are outliers, in micro-blocks."""
        block, wide = quantizer.block_shape(*w.shape)[1], w.double()
        far = torch.empty_like(w, dtype=torch.bool)
        for first in range(0, w.shape[1], block):
            own = wide[:, first : first + block]
            off = (own - own.mean(1, keepdim=True)).abs()
            far[:, first : first + block] = off > self.sigmas * off.square().mean(1, keepdim=True).sqrt()
        sizes = self._micro_blocks(wide.abs().masked_fill(~far, -1.0), -1.0)
        room = self._micro_blocks(torch.ones_like(w[:1]), 0.0).sum(-1, keepdim=True) // 2
        return (sizes >= 0) & (_ranks(sizes, descending=True) < room)

    def _pruned(self, saliency: Tensor, found: Tensor) -> Tensor:
        """As many inliers of each micro-block as it has outliers."""
        ranks = _ranks(saliency.masked_fill(found, torch.inf), descending=False)
        return ranks < found.sum(-1, keepdim=True)


def _ranks(x: Tensor, descending: bool) -> Tensor:
    """The place of each element in the order of its row; the first of equals comes first."""
    order = torch.sort(x, dim=-1, descending=descending, stable=True).indices
    return torch.sort(order, dim=-1, stable=True).indices


__all__ = ["MicroScopiQ"]
