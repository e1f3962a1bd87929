"""What a post-training method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.gemm import Gemm
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.balances import Balance
from dse.numerics.techniques.branches import Branch
from dse.numerics.techniques.post.operands import PostOperands
from dse.numerics.techniques.scale_searches import ScaleSearch


@dataclass(frozen=True)
class PostTraining(ABC):
    """Quantizes trained weights once, for inference with the forward GEMM of a recipe; nothing is trained with it.

    - ``balance``: factors between X and W, or none; ``scales``: a search of W's block scales, or none: the quantizer's;
    - ``branch``: a part of W of low rank that stays in 16 bits, or none;
    - ``batches``: how many batches the statistics of activations are taken from, where a method needs them.

    Activations are quantized and rotated as the forward GEMM says, at every product. ``arithmetic``: see
    ``dse.numerics.registry``. Raises OptionError unless there is at least one batch.
    """

    balance: Balance | None = None
    scales: ScaleSearch | None = None
    batches: int = 16
    branch: Branch | None = None
    arithmetic: ClassVar[int] = 1
    data: ClassVar[bool] = False
    """Whether the rounding itself looks at X."""

    def __post_init__(self) -> None:
        if self.batches < 1:
            raise OptionError(f"batches must be at least 1, not {self.batches}")

    @property
    def calibrates(self) -> bool:
        """Whether the method looks at activations."""
        parts = (self.scales, self.branch)
        return self.data or self.balance is not None or any(part is not None and part.data for part in parts)

    @property
    def keeps(self) -> int:
        """Rows of each layer's X that the method wants to see themselves."""
        return 0

    def check_gemm(self, gemm: Gemm) -> None:
        """Raises OptionError where the method has no meaning for a forward GEMM."""
        self.check(gemm.rhs)

    def check(self, quantizer: Quantizer) -> None:
        """Raises OptionError where the method has no meaning for a quantizer of W."""
        if not isinstance(quantizer, BlockQuantizer):
            raise OptionError("post: it quantizes W, and fprop.rhs has no block quantizer")
        if self.scales is not None:
            self.scales.check(quantizer)
        if self.scales is None and not self.data:
            return
        what = "post.scales" if self.scales is not None else "post"
        for name in ("outliers", "correction"):
            if getattr(quantizer, name) is not None:
                raise OptionError(f"{what}: it rounds W under one scale per block, and fprop.rhs.{name} makes others")
        if quantizer.random_bits:
            raise OptionError(f"{what}: it decides how W is rounded, so fprop.rhs cannot round stochastically")

    def fixed(self, quantizer: BlockQuantizer, w: Tensor, inputs: InputStatistics | None) -> FixedScales:
        """The scales under which W [N, K] is rounded."""
        return FixedScales.of(quantizer, w) if self.scales is None else self.scales.scales(quantizer, w, inputs)

    def beside(self, gemm: Gemm, outputs: int, inputs: int) -> int:
        """Bits that a layer with W [N, K] keeps beside its weight's elements and scales."""
        branch = 0 if self.branch is None else self.branch.bits(outputs, inputs)
        if self.scales is None or not isinstance(gemm.rhs, BlockQuantizer):
            return branch
        return branch + self.scales.beside(gemm.rhs, outputs, inputs)

    def make(self, gemm: Gemm, w: Tensor, inputs: InputStatistics | None, key: Key) -> PostOperands:
        """W [N, K], float32, already balanced and rotated, for a GEMM: its operand and what goes with it."""
        if self.branch is None:
            return PostOperands(self.quantize(gemm.rhs, w, inputs, key), bits=self._stored(gemm.rhs, w))
        operand, low_rank = self.branch.split(w, inputs, lambda part: self.quantize(gemm.rhs, part, inputs, key))
        bits = self._stored(gemm.rhs, self.branch.quantized(w, low_rank))
        return PostOperands(operand, low_rank=low_rank, bits=bits)

    @abstractmethod
    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        """W [N, K], float32, already balanced and rotated, as the operand of the forward GEMM.

        ``inputs``: statistics of X, equally balanced and rotated; None where the method does not calibrate. Raises
        CalibrationError where they do not suffice.
        """

    def _stored(self, quantizer: Quantizer, w: Tensor) -> int:
        """Bits that the search of scales keeps beside W [N, K]."""
        if self.scales is None or not isinstance(quantizer, BlockQuantizer):
            return 0
        return self.scales.stored(quantizer, w)

    def ops(self) -> Ops:
        """Cost at inference beyond that of the recipe, per element of X, and of Y for a branch."""
        parts = [part.ops() for part in (self.balance, self.branch) if part is not None]
        return sum(parts[1:], parts[0]) if parts else Ops(why="0")
