"""Muon for the matrices of hidden layers, AdamW for all other parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.ops import Ops
from dse.numerics.quantizer import BFloat16
from dse.numerics.techniques.tensor_scales import Current
from dse.optim.adam import adam, grow
from dse.optim.base import Hyper, Optimizer
from dse.optim.layout import Layout
from dse.optim.newton_schulz import orthogonalized

SCALES = ("rms", "spectral")
_BF16 = Gemm(BFloat16(), BFloat16())
_ROWS = BlockQuantizer(E2M1, UE4M3, block=16, tensor_scale=Current())
NVFP4_PRODUCTS = Gemm(_ROWS, _ROWS)
"""NVFP4 in rows of 16, nearest, each matrix with a tensor scale of its own."""


class _Group(NamedTuple):
    """Matrices [N, K] of one shape: the numbers of their parameters, and their columns in the buffer of matrices."""

    rows: int
    columns: int
    numbers: list[int]
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class Muon(Optimizer):
    """m <- mu m + (1 - mu) g, u = mu m + (1 - mu) g (Nesterov), W <- (1 - lr wd) W - lr scale O(u), O by Newton-Schulz.

    - W [N, K]: the weights of hidden linears and convolutions (``Layout.hidden``; a convolution's as [N, K h w]); lr is
      ``Hyper.matrix_lr``. Embeddings, the head, norms and biases are AdamW's, with ``Hyper.lr`` and the betas.
    - ``momentum``: mu; ``products``: how the operands of the Newton-Schulz products are quantized (BF16);
    - ``iterations``: of Newton-Schulz; ``margin``: what X is divided by between them (``orthogonalized``);
    - ``scale``: 'rms' is .2 sqrt(max(N, K)): an update has a root mean square of about .2, as AdamW's, and shares its
      rate (arXiv 2502.16982, Moonlight, Sec. 2.2); 'spectral' is sqrt(max(1, N / K)) (Keller Jordan's), rate about .02.

    State: ``momentum`` [E, Q] of the matrices; ``first``, ``second`` [E, R] and ``powers`` float64 [E, 2] of the rest.
    Cost: 5 iterations of three products, 30 n matrix-unit operations per parameter of a square n x n matrix.
    Source: kellerjordan.github.io/posts/muon; with NVFP4 products arXiv 2607.04422 (Full-Stack FP4).
    Raises OptionError for another scale, a momentum outside of [0, 1), no iterations, or a margin below 1.
    """

    momentum: float = 0.95
    scale: str = "rms"
    products: Gemm = _BF16
    iterations: int = 5
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise OptionError(f"muon.momentum must lie in [0, 1), not {self.momentum}")
        if self.scale not in SCALES:
            raise OptionError(f"muon.scale must be 'rms' or 'spectral', not {self.scale!r}")
        if self.iterations < 1 or self.margin < 1:
            raise OptionError(f"muon needs iterations and a margin of 1 at least: {self.iterations}, {self.margin:g}")

    def state(self, p: Tensor, layout: Layout) -> dict[str, Tensor]:
        matrices, rest = (p.new_zeros(len(p), layout.part(hidden).size) for hidden in (True, False))
        powers = torch.ones(len(p), 2, dtype=torch.float64, device=p.device)
        return {"momentum": matrices, "first": rest, "second": rest.clone(), "powers": powers}

    def moments(self, layout: Layout) -> dict[str, tuple[str, Layout]]:
        rest = layout.part(False)
        return {"momentum": ("first", layout.part(True)), "first": ("first", rest), "second": ("second", rest)}

    @torch.no_grad()
    def decay(
        self, p: Tensor, g: Tensor, hyper: Hyper, layout: Layout, active: Tensor, columns: Iterable[tuple[int, int]]
    ) -> Hyper:
        """Of hidden matrices by their own rate."""
        wanted = list(columns)
        for hidden, rate in ((True, hyper.matrix_lr), (False, hyper.lr)):
            keep = torch.where(active, 1 - rate * hyper.weight_decay, 1).to(p.dtype)
            for start, end in _common(wanted, layout.pieces(hidden)):
                p[:, start:end].mul_(keep)
        return hyper._replace(weight_decay=torch.zeros_like(hyper.weight_decay))

    @torch.no_grad()
    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        self._update_rest(p, g, state, hyper, layout, active)
        if layout.hidden:
            self._update_matrices(p, g, state["momentum"], hyper, layout, active)

    def _update_rest(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        powers = grow(state["powers"], torch.cat([hyper.beta1, hyper.beta2], 1), active)
        pieces = layout.pieces(hidden=False)
        if not pieces:
            return
        w, d = (torch.cat([t[:, a:b] for a, b in pieces], 1) for t in (p, g))
        adam(w, d, state["first"], state["second"], powers, hyper, active, eps=1e-8)
        _put_back(p, w, pieces)

    def _update_matrices(
        self, p: Tensor, g: Tensor, momentum: Tensor, hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        own, pieces = layout.part(hidden=True), layout.pieces(hidden=True)
        w, d = (torch.cat([t[:, a:b] for a, b in pieces], 1) for t in (p, g))
        fresh = d * (1 - self.momentum)
        momentum.copy_(torch.where(active, momentum * self.momentum + fresh, momentum))
        u = (momentum * self.momentum).add_(fresh)
        norms = own.norms(u)
        rate = -hyper.matrix_lr
        w.mul_(torch.where(active, 1 + rate * hyper.weight_decay, 1).to(w.dtype))
        for group in _groups(own):
            one = self._direction(u, norms, group)
            factor = (rate * self._factor(group)).to(w.dtype)
            for span, o in zip(group.spans, one.unbind(1), strict=True):
                columns = w[:, span[0] : span[1]]
                columns.add_(torch.where(active, o.flatten(1) * factor, -0.0))
        _put_back(p, w, pieces)

    def _direction(self, u: Tensor, norms: Tensor, group: _Group) -> Tensor:
        """O(u) [E, B, N, K] of the matrices of one shape."""
        members, count = len(u), len(group.spans)
        x = torch.stack([u[:, a:b].unflatten(1, (group.rows, group.columns)) for a, b in group.spans], 1)
        sizes = torch.stack([norms[:, number] for number in group.numbers], 1)
        flat = orthogonalized(x.flatten(0, 1), sizes.flatten(), self.products, self.iterations, self.margin)
        found: Tensor = flat.unflatten(0, (members, count))
        return found

    def _factor(self, group: _Group) -> float:
        n, k = group.rows, group.columns
        return 0.2 * math.sqrt(max(n, k)) if self.scale == "rms" else math.sqrt(max(1.0, n / k))

    def ops(self) -> Ops:
        n, per = 4096, 6 * self.iterations
        return Ops(
            element=8, matrix=float(per * n), reads=2, why=f"Newton-Schulz {per} n/parameter, n = {n} (Llama-3 8B)"
        )


def _common(some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What two lists of pieces have in common."""
    both = [(max(a, c), min(b, d)) for a, b in some for c, d in others]
    return [(start, end) for start, end in both if start < end]


def _groups(layout: Layout) -> list[_Group]:
    """The matrices by shape, in the order of the layout."""
    found: dict[tuple[int, int], _Group] = {}
    for number, (shape, span) in enumerate(zip(layout.shapes, layout.spans(), strict=True)):
        size = shape[0], math.prod(shape[1:])
        group = found.setdefault(size, _Group(*size, [], []))
        group.numbers.append(number)
        group.spans.append(span)
    return list(found.values())


def _put_back(p: Tensor, part: Tensor, pieces: list[tuple[int, int]]) -> None:
    """Columns of p [E, P] from a buffer that holds them side by side."""
    at = 0
    for start, end in pieces:
        p[:, start:end].copy_(part[:, at : at + end - start])
        at += end - start
