"""What happens to the sums of a product before they are stored."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from dse.kernels.factors import NO_FACTORS, Pair, SumFactors


class Epilogue(NamedTuple):
    """Factors of both operands, how many scales the sums are multiplied by, and whether a bias [E, N] is added; absent
    ones are any tensor.

    ``stride``: from one member's bias to the next.
    """

    alpha: Tensor
    alpha2: Tensor
    bias: Tensor
    stride: int
    scales: int
    biased: bool
    factors: Pair = NO_FACTORS

    @classmethod
    def of(
        cls,
        alpha_x: Tensor | None,
        alpha_y: Tensor | None,
        bias: Tensor | None,
        other: Tensor,
        factors: Pair = NO_FACTORS,
    ) -> Epilogue:
        scales = [s.reshape(-1) for s in (alpha_x, alpha_y) if s is not None]
        first, second = [*scales, other, other][:2]
        if bias is None:
            return cls(first, second, other, 0, len(scales), False, factors)
        bias = bias if bias.stride(-1) == 1 else bias.contiguous()
        return cls(first, second, bias, bias.stride(0), len(scales), True, factors)

    def none(self) -> Epilogue:
        """The sums are stored as they are, partial ones with the factors of their groups."""
        one, two = (own if own is not None and own.group else None for own in self.factors)
        return self._replace(scales=0, biased=False, factors=(one, two))

    def at_end(self) -> Epilogue:
        """What ``none`` leaves out: without the factors of groups."""
        one, two = (own if own is not None and not own.group else None for own in self.factors)
        return self._replace(factors=(one, two))

    def of_members(self, some: slice) -> Epilogue:
        """The same of ``some`` members."""
        first = self.alpha[some] if self.scales > 0 else self.alpha
        second = self.alpha2[some] if self.scales > 1 else self.alpha2
        bias = self.bias[some] if self.biased else self.bias
        one, two = (None if own is None else own.of_members(some) for own in self.factors)
        return self._replace(alpha=first, alpha2=second, bias=bias, factors=(one, two))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Of a kernel: both scales, the bias and its stride, the factors and their strides from member to member."""
        found: list[Any] = [*self[:4]]
        for own in self.factors:
            found += [self.alpha, 0] if own is None else [own.scales, own.scales.stride(0)]
        return tuple(found)

    @property
    def constants(self) -> dict[str, Any]:
        """What kernels are compiled for; GROUP_A, GROUP_B: elements of K under a factor, 0: none, -1: all of a row."""
        one, two = map(_elements, self.factors)
        return {"SCALES": self.scales, "BIAS": self.biased, "GROUP_A": one, "GROUP_B": two}


def _elements(own: SumFactors | None) -> int:
    return 0 if own is None else own.group or -1
