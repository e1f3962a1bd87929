"""Where each parameter lies in a pack's flat buffer [E, P], and what is computed per parameter of such a buffer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dse import kernels

ALIGN = 32
"""Every parameter starts at a multiple of this many elements: 128 bytes of FP32, for any member."""


@dataclass(frozen=True)
class Layout:
    """The parameters of one member in their model's order, each flattened and padded with zeros to a multiple of ALIGN.

    A flat buffer holds E members as rows [E, P] with P = ``size``. Optimizers leave the padding at zero.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Without the axis of members."""
    offsets: tuple[int, ...]
    size: int
    hidden: frozenset[str] = frozenset()
    """Names of the weights of hidden linears and convolutions, which an optimizer may treat as matrices."""

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, Tensor]], hidden: Iterable[str] = ()) -> Layout:
        """The layout for one member's ``model.named_parameters()``; ``hidden``: see the field."""
        named = [(name, tuple(p.shape)) for name, p in parameters]
        offsets, end = [], 0
        for _, shape in named:
            offsets.append(end)
            end += -(-math.prod(shape) // ALIGN) * ALIGN
        names, shapes = tuple(name for name, _ in named), tuple(shape for _, shape in named)
        return cls(names, shapes, tuple(offsets), end, frozenset(hidden))

    def part(self, hidden: bool) -> Layout:
        """The layout of the ``hidden`` parameters alone, or of all others, in a buffer of their own."""
        chosen = [
            (name, torch.empty(shape, device="meta")) for name, shape in zip(self.names, self.shapes, strict=True)
        ]
        return Layout.of([(name, t) for name, t in chosen if (name in self.hidden) == hidden], self.hidden)

    def pieces(self, hidden: bool) -> list[tuple[int, int]]:
        """Columns (first, end) of what ``part`` holds, paddings included; neighbors are one piece."""
        return self._merged([(name in self.hidden) == hidden for name in self.names])

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Each parameter as a view [E, *shape] of ``flat`` [E, P], by name."""
        rows = zip(self.names, self.shapes, self.rows(flat), strict=True)
        return {name: row.view(len(flat), *shape) for name, shape, row in rows}

    def rows(self, flat: Tensor) -> list[Tensor]:
        """Each parameter as a view [E, elements] of ``flat`` [E, P]."""
        return [flat[:, start:end] for start, end in self.spans()]

    def spans(self) -> list[tuple[int, int]]:
        """Columns (first, end) of each parameter, without its padding."""
        return [(offset, offset + math.prod(shape)) for offset, shape in zip(self.offsets, self.shapes, strict=True)]

    def matrices(self) -> list[tuple[int, int]]:
        """Columns (first, end) of the parameters with two axes or more; neighbors are one piece."""
        return self._merged([len(shape) >= 2 for shape in self.shapes])

    def _merged(self, wanted: Sequence[bool]) -> list[tuple[int, int]]:
        pieces: list[tuple[int, int]] = []
        for offset, width, one in zip(self.offsets, self._widths(), wanted, strict=True):
            if not one:
                continue
            start = pieces.pop()[0] if pieces and pieces[-1][1] == offset else offset
            pieces.append((start, offset + width))
        return pieces

    def join(self, stacked: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """One flat buffer [E, P] from parameters or gradients [E, *shape] in the layout's order; one pass."""
        members, pieces = len(stacked[0]), list[Tensor]()
        for tensor, width in zip(stacked, self._widths(), strict=True):
            row = tensor.reshape(members, -1)
            pieces.append(row)
            if row.shape[1] < width:
                pieces.append(row.new_zeros(members, width - row.shape[1]))
        return torch.cat(pieces, 1) if out is None else torch.cat(pieces, 1, out=out)

    def norms(self, flat: Tensor) -> Tensor:
        """The Euclidean norm [E, n] of each of the n parameters, NaN where one is.

        A member's norms are bit for bit the same alone and in any pack: on the CPU on one thread, on a GPU by a kernel.
        """
        if flat.dtype == torch.float32 and flat.stride(-1) == 1 and kernels.takes(flat):
            return kernels.norms(flat, self.spans())
        return torch.stack([torch.linalg.vector_norm(row, dim=1) for row in self.rows(flat)], 1)

    def peaks(self, flat: Tensor) -> Tensor:
        """The largest magnitude [E, n] of each of the n parameters, NaN where one is."""
        pairs = [torch.aminmax(row, dim=1) for row in self.rows(flat)]
        return torch.stack([torch.maximum(high, -low) for low, high in pairs], 1)

    def spread(self, values: Tensor) -> Tensor:
        """One value per parameter [E, n] repeated over its elements: [E, P]."""
        columns = zip(values.split(1, 1), self._widths(), strict=True)
        return torch.cat([column.expand(-1, width) for column, width in columns], 1)

    def _widths(self) -> list[int]:
        ends = (*self.offsets[1:], self.size)
        return [end - offset for offset, end in zip(self.offsets, ends, strict=True)]


@torch.no_grad()
def clip(g: Tensor, limit: Tensor, norms: Tensor) -> None:
    """Scales each member's gradient g [E, P], in place, so that its norm is at most ``limit`` [E, 1]; 0: no clipping.

    ``norms`` [E, n] are ``Layout.norms(g)``. The factor is min(limit / (norm + 1e-6), 1), as in
    torch.nn.utils.clip_grad_norm_: a gradient that is not finite stays so in all its elements.
    """
    total = torch.linalg.vector_norm(norms, dim=1, keepdim=True)
    factor = (limit.to(g.dtype) / (total + 1e-6)).clamp_max(1)
    g.mul_(torch.where(limit > 0, factor, 1))


__all__ = ["ALIGN", "Layout", "clip"]
