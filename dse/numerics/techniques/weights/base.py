"""What a weight rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key


class WeightRule(ABC):
    """Chooses how the weight of a quantized layer is rounded in the forward pass, or acts around the optimizer's step.

    ``state`` holds the rule's tensors for one layer, created by ``state`` below, changed in place, kept in checkpoints.
    All tensors may have leading axes (members of a pack); elements never mix across them.

    One training step is: backward, unscale and clip the gradient, ``before_step``, the optimizer's step,
    ``after_step``. A step that is skipped (dynamic loss scaling) calls neither, or takes back what they did.
    ``arithmetic``: see ``dse.numerics.registry``.
    """

    arithmetic: ClassVar[int] = 1

    @property
    def quantizes(self) -> bool:
        """Whether the rule has its say on how W is quantized; otherwise ``quantize`` is the quantizer itself."""
        return True

    def check(self, quantizer: Quantizer, rotated: bool) -> None:
        """Raises OptionError where the rule has no meaning: ``quantizer`` and rotation of W in the forward GEMM.

        Rules speak of W's own elements, each with its two neighbors on a grid, so a rotation of the forward GEMM,
        whose quantized elements are mixtures, and a W without a grid are refused.
        """
        name = type(self).__name__
        if not isinstance(quantizer, BlockQuantizer):
            raise OptionError(f"weights: {name} needs a block quantizer of W at fprop.rhs, not {quantizer}")
        if rotated:
            raise OptionError(f"weights: {name} follows elements of W, and fprop.rotation quantizes mixtures of them")

    @abstractmethod
    def state(self, w: Tensor) -> dict[str, Tensor]:
        """The initial tensors for a weight [N, K], by name."""

    @abstractmethod
    def quantize(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> Quantized:
        """f(W) of the forward GEMM, W [..., N, K] already rotated where the GEMM rotates."""

    @abstractmethod
    def before_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        """Called after the backward pass and before the optimizer; may change ``w.grad``."""

    @abstractmethod
    def after_step(self, quantizer: Quantizer, w: Tensor, state: dict[str, Tensor], key: Key) -> None:
        """Called after the optimizer's step; may change ``w`` in place."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost per weight element and step."""
