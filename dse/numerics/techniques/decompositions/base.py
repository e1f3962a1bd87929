"""What a decomposition of a linear's products is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from dse import kernels
from dse.numerics.matmul import contract
from dse.numerics.ops import Ops
from dse.numerics.points import GEMMS, POINTS
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key


class Term(NamedTuple):
    """A correction ``left`` ``right``^T of a product [..., M, N], multiplied as it is, with FP32 accumulation.

    ``left`` [..., M, r], or None for a column of ones; ``right`` [..., n, r]; ``columns`` int64 [..., n]: the product's
    columns that it is added to, None for all N.
    """

    left: Tensor | None
    right: Tensor
    columns: Tensor | None = None


class SplitProduct(NamedTuple):
    """a b^T = ``lhs`` ``rhs``^T + the ``terms``; the GEMM quantizes ``lhs`` [..., M, K] and ``rhs`` [..., N, K].

    ``aside``: tensors that were taken out of a and b, for ``Decomposition.corrections``.
    """

    lhs: Tensor
    rhs: Tensor
    terms: tuple[Term, ...] = ()
    aside: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class DecodedOperands:
    """The quantized operands of a GEMM in its rotated space: ``a`` [..., M, K'] and ``b`` [..., N, K'].

    ``turn``: takes rows [..., R, K] into that space; ``left``: number of the left operand's point.
    """

    a: Quantized
    b: Quantized
    turn: Callable[[Tensor], Tensor]
    left: int

    @cached_property
    def lhs(self) -> Tensor:
        """``a`` decoded, in FP32 at least: [..., M, K']."""
        return decoded(self.a)

    @cached_property
    def rhs(self) -> Tensor:
        """``b`` decoded, in FP32 at least: [..., N, K']."""
        return decoded(self.b)


@dataclass(frozen=True, eq=False)
class Shared:
    """Tensors that several GEMMs of one call compute from the same operand, each computed once."""

    _found: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def take(self, name: str, of: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` gives for ``of``, under a ``name``; the last result of it where that was of this tensor."""
        found = self._found.get(name)
        if found is None or found[0] is not of:
            found = self._found[name] = of, compute()
        return found[1]


class Kept(NamedTuple):
    """What a decomposition has at a layer: its ``tensors`` by name, and the layer's ``key`` of this call.

    ``shared``: what the GEMMs of this call have in common, or None: each computes it anew.
    """

    tensors: Mapping[str, Tensor]
    key: Key
    shared: Shared | None = None

    def once(self, name: str, of: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """``Shared.take`` where there is one."""
        return compute() if self.shared is None else self.shared.take(name, of, compute)


def decoded(q: Quantized) -> Tensor:
    """f(X) in FP32 at least, in which tensor scales do not round it."""
    q = q.folded()
    if q.alpha is not None:  # one pass: the values are widened as they are multiplied
        return q.values * q.alpha
    return q.values.to(torch.promote_types(q.values.dtype, torch.float32))


def times(a: Tensor | Quantized, b: Tensor) -> Tensor:
    """a b^T [..., M, N] of a [..., M, K], decoded, and b [..., N, K] as they are, with FP32 accumulation.

    A library's product depends on how its operands lie, so both are laid out in rows; one of kernels does not.
    """
    if isinstance(a, Quantized):
        q = a.folded()
        narrow = q.values.dtype == torch.bfloat16 and b.dtype == torch.float32
        if q.alpha is not None and narrow and _by_kernels(q.values, b):
            return kernels.contract(q.values, b, decode=q.alpha)
        a = decoded(q)
    if not _by_kernels(a, b):
        a, b = a.contiguous(), b.contiguous()
    return contract(Quantized(a), Quantized(b))


def _by_kernels(a: Tensor, b: Tensor) -> bool:
    """Whether ``contract`` multiplies them by kernels of its own."""
    return a.dim() == b.dim() == 3 and len(a) == len(b) and a.dtype != torch.float64 and kernels.takes(a)


class Decomposition(ABC):
    """Writes each GEMM of a linear as a low-precision product plus terms in higher precision.

    X [..., M, K], W [..., N, K], G [..., M, N]; leading axes are members of a pack. A GEMM that quantizes nothing is
    left whole. The gradients of X and W are those of the GEMMs: quantizers and terms count as the identity
    (straight-through).

    Tensors of a layer are made by ``state``, changed in place by ``observe``, ``refresh`` and ``corrections`` in
    training, and kept in checkpoints; all of them have at least one axis behind the leading ones.

    ``splits``: the GEMMs that it writes in parts; ``corrects``: whether ``corrections`` has terms; ``turns``: whether
    the GEMMs that it splits may be rotated; ``measures``: whether its tensors come from data; ``narrow``: whether the
    GEMMs that it splits take X and G in BF16 too, as if these were FP32; ``pairs``: whether wgrad takes the transpose
    of what dgrad takes in place of G, where both quantize.
    """

    arithmetic: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = GEMMS
    corrects: ClassVar[bool] = False
    turns: ClassVar[bool] = True
    measures: ClassVar[bool] = True
    narrow: ClassVar[bool] = False
    pairs: ClassVar[bool] = False

    def state(self, w: Tensor) -> dict[str, Tensor]:
        """The first tensors of a layer with the weight [N, K], by name."""
        return {}

    def observe(self, x: Tensor, w: Tensor, kept: Kept) -> None:  # noqa: B027 - not all of them look
        """Looks at the operands of a forward pass in training; may change the layer's tensors."""

    def refresh(self, w: Tensor, tensors: Mapping[str, Tensor], step: int) -> None:  # noqa: B027 - few do
        """Called before each training step with the weight [..., N, K]; may change the layer's tensors."""

    def fprop(self, x: Tensor, w: Tensor, kept: Kept) -> SplitProduct:
        """Y = X W^T in parts: shapes of X and W."""
        return SplitProduct(x, w)

    def dgrad(self, g: Tensor, w: Tensor, kept: Kept) -> SplitProduct:
        """dX = G (W^T)^T in parts: shapes of G and W^T."""
        return SplitProduct(g, w.mT)

    def wgrad(self, g: Tensor, x: Tensor, kept: Kept) -> SplitProduct:
        """dW = G^T (X^T)^T in parts: shapes of G^T and X^T."""
        return SplitProduct(g.mT, x.mT)

    def corrections(self, gemm: str, parts: SplitProduct, operands: DecodedOperands, kept: Kept) -> tuple[Term, ...]:
        """Terms of a GEMM that depend on its quantized operands; called only where ``corrects``."""
        return ()

    def copies(self, parts: SplitProduct, x: Tensor, w: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
        """X [..., M, K] and W [..., N, K] as the forward product has them, from its parts and decoded operands."""
        return x, w

    def computed_by(self, wrap: Callable[[Quantizer], Quantizer]) -> Self:
        """The same decomposition with each quantizer of its own wrapped."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **{n: wrap(q) for n, q in own.items() if isinstance(q, Quantizer)})  # type: ignore[type-var]

    @abstractmethod
    def point_ops(self, point: str) -> Ops | None:
        """Vector operations that it adds at a quantization point, None where it adds none."""

    def ops(self) -> Ops:
        """The same, summed over all points."""
        found = [ops for point in POINTS if (ops := self.point_ops(point)) is not None]
        return sum(found[1:], found[0]) if found else Ops(why="0")

    def wider(self, gemm: str) -> tuple[float, int]:
        """The share of a GEMM that is multiplied in another format instead of the GEMM's own, and its bits."""
        return 0.0, 16

    def term_flop(self, gemm: str, m: int, k: int, n: int) -> float:
        """Floating-point operations of the terms that are added to a GEMM in BF16; M tokens, K inputs, N outputs."""
        return 0.0
