"""What a post-training method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.balances import Balance
from dse.numerics.techniques.scale_searches import ScaleSearch


@dataclass(frozen=True)
class PostTraining(ABC):
    """Quantizes trained weights once, for inference with the forward GEMM of a recipe; nothing is trained with it.

    - ``balance``: factors between X and W, or none; ``scales``: a search of W's block scales, or none: the quantizer's;
    - ``batches``: how many batches the statistics of activations are taken from, where a method needs them.

    Activations are quantized and rotated as the forward GEMM says, at every product. ``arithmetic``: see
    ``dse.numerics.registry``. Raises OptionError unless there is at least one batch.
    """

    balance: Balance | None = None
    scales: ScaleSearch | None = None
    batches: int = 16
    arithmetic: ClassVar[int] = 1
    data: ClassVar[bool] = False
    """Whether the rounding itself looks at X."""

    def __post_init__(self) -> None:
        if self.batches < 1:
            raise OptionError(f"batches must be at least 1, not {self.batches}")

    @property
    def calibrates(self) -> bool:
        """Whether the method looks at activations."""
        return self.data or self.balance is not None or (self.scales is not None and self.scales.data)

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

    @abstractmethod
    def quantize(self, quantizer: Quantizer, w: Tensor, inputs: InputStatistics | None, key: Key) -> Quantized:
        """W [N, K], float32, already balanced and rotated, as the operand of the forward GEMM.

        ``inputs``: statistics of X, equally balanced and rotated; None where the method does not calibrate. Raises
        CalibrationError where they do not suffice.
        """

    def ops(self) -> Ops:
        """Cost at inference beyond that of the recipe, per element of X."""
        return Ops(why="0") if self.balance is None else self.balance.ops()
