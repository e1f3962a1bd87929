"""An FP32 scale per group of blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError
from dse.numerics.ops import Ops
from dse.numerics.random import Key
from dse.numerics.techniques.tensor_scales.base import TensorScale
from dse.numerics.techniques.tensor_scales.current import check_target


@dataclass(frozen=True)
class Outer(TensorScale):
    """g = max |X| over ``blocks`` consecutive blocks of a row (8 blocks of 16: TetraJet-v2's 1 x 128), or 0: all.

    With 0 there is one factor per row, of a token or an output channel, which hardware applies in the GEMM's epilogue.

    The factor differs along the contraction axis, so it is folded into the decoded values, which are then exact in
    FP32 only. Cost: a max over block maxima 1/block and one multiplication per element; no grid-wide dependency.
    Source: arXiv 2510.27527 (TetraJet-v2); TransformerEngine #2931 (per row). Raises OptionError unless blocks >= 0
    and T > 0.
    """

    blocks: int = 8
    target: float | None = None

    def __post_init__(self) -> None:
        check_target(self.target)
        if self.blocks < 0:
            raise OptionError(f"outer.blocks must be at least 0 (0: all of a row), not {self.blocks}")

    @property
    def tensor_wide(self) -> bool:
        return False

    def reference(self, peak: Tensor, key: Key | None) -> Tensor:
        count = peak.shape[-2]
        blocks = self.blocks or count
        row = pad(peak.detach().flatten(-2), (0, -count % blocks))
        g = row.unflatten(-1, (-1, blocks)).amax(-1, keepdim=True)
        spread: Tensor = g.expand(*g.shape[:-1], blocks).flatten(-2)[..., :count].unsqueeze(-1)
        return spread

    def ops(self) -> Ops:
        return Ops(element=1, block=1, why="max of block maxima 1/block, 1/element to apply")
