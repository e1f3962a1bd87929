"""An optimizer whose moments are stored in few bits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dse.numerics.ops import Ops
from dse.optim.base import Hyper, Optimizer
from dse.optim.layout import Layout
from dse.optim.moments.base import MomentFormat


@dataclass(frozen=True)
class StoredMoments(Optimizer):
    """``inner`` with its moments rounded after each step: the next step reads what was stored.

    ``formats``: of moments by the names 'first' and 'second', see ``Optimizer.moments``. The step itself is the inner
    optimizer's, computed from moments that are not rounded yet. Members at rest keep every bit.
    Plain torch, a few passes over the moments behind the inner optimizer's kernel.
    """

    inner: Optimizer
    formats: tuple[tuple[str, MomentFormat], ...]

    def state(self, p: Tensor, layout: Layout) -> dict[str, Tensor]:
        return self.inner.state(p, layout)

    @torch.no_grad()
    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], hyper: Hyper, layout: Layout, active: Tensor
    ) -> None:
        self.inner.update(p, g, state, hyper, layout, active)
        formats = dict(self.formats)
        for name, (kind, own) in self.inner.moments(layout).items():
            if kind in formats:
                moment = state[name]
                moment.copy_(torch.where(active, formats[kind].stored(moment, own), moment))

    def decay(
        self, p: Tensor, g: Tensor, hyper: Hyper, layout: Layout, active: Tensor, columns: Iterable[tuple[int, int]]
    ) -> Hyper:
        return self.inner.decay(p, g, hyper, layout, active, columns)

    def moments(self, layout: Layout) -> dict[str, tuple[str, Layout]]:
        return self.inner.moments(layout)

    def ops(self) -> Ops:
        return sum((form.ops() for _, form in self.formats), start=self.inner.ops())
