"""What happens to the sums of a product before they are stored."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Epilogue(NamedTuple):
    """How many scales the sums are multiplied by, and whether a bias [E, N] is added; absent ones are any tensor.

    ``stride``: from one member's bias to the next.
    """

    alpha: Tensor
    alpha2: Tensor
    bias: Tensor
    stride: int
    scales: int
    biased: bool

    @classmethod
    def of(cls, alpha_x: Tensor | None, alpha_y: Tensor | None, bias: Tensor | None, other: Tensor) -> Epilogue:
        scales = [s.reshape(-1) for s in (alpha_x, alpha_y) if s is not None]
        first, second = [*scales, other, other][:2]
        if bias is None:
            return cls(first, second, other, 0, len(scales), False)
        bias = bias if bias.stride(-1) == 1 else bias.contiguous()
        return cls(first, second, bias, bias.stride(0), len(scales), True)

    def none(self) -> Epilogue:
        """Nothing: the sums are stored as they are."""
        return self._replace(scales=0, biased=False)

    def of_members(self, some: slice) -> Epilogue:
        """The same of ``some`` members."""
        first = self.alpha[some] if self.scales > 0 else self.alpha
        second = self.alpha2[some] if self.scales > 1 else self.alpha2
        return self._replace(alpha=first, alpha2=second, bias=self.bias[some] if self.biased else self.bias)
