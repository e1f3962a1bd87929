"""Attention of a packed model: runs of members with quantized products, by kernels or in plain torch, or without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dse.nn.attention import at_work, attend, attend_by, stream
from dse.nn.clock import numbered
from dse.numerics.attention import Attention
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.schedules.base import FULL
from dse.pack.attention_products import AttentionProducts
from dse.pack.layer import MemberRun


class Operands(NamedTuple):
    """Queries, keys and values [E, B, H, T, D] of a run of members, and their mask."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None


class PackAttention:
    """One attention of E members: their recipes and phases, and the runs that compute alike.

    ``recipes`` [E]: None where a member's recipe (or the task) leaves it in high precision; ``plain``: the model's own
    module, which then computes; ``clock`` int64 [E, 2]; ``index``: of the attention, for its random streams;
    ``use_kernels``: for the quantized products.
    """

    def __init__(
        self, plain: nn.Module, recipes: Sequence[Recipe | None], clock: Tensor, index: int, use_kernels: bool
    ) -> None:
        self.plain, self._recipes, self._clock, self._index = plain, tuple(recipes), clock, index
        self._use_kernels = use_kernels
        self.phases = [FULL] * len(recipes)
        self.runs = (MemberRun(0, len(recipes), None, {}, None),)  # nothing is kept but the phases
        self.training = True
        self.calls: int | None = None
        self.parts: list[tuple[slice, Attention | AttentionProducts | None]] = []
        self.arrange()

    def arrange(self) -> None:
        """Divides the members, at their present phases, into runs of equal numerics; for kernels, of quantized ones."""
        numerics = [at_work(recipe, phase) for recipe, phase in zip(self._recipes, self.phases, strict=True)]
        self.parts = []

        def kind(i: int) -> Any:
            return numerics[i] is not None if self._use_kernels else numerics[i]

        for _, group in groupby(range(len(numerics)), kind):
            members = list(group)
            at = slice(members[0], members[-1] + 1)
            quantized = [n for n in numerics[at] if n is not None]
            by_kernels = AttentionProducts(quantized, self._clock.device) if self._use_kernels and quantized else None
            self.parts.append((at, by_kernels or numerics[members[0]]))

    @contextmanager
    def as_baseline(self) -> Iterator[None]:
        """Within this context every member computes in high precision, as under the baseline recipe."""
        own, self.parts = self.parts, [(slice(0, len(self.phases)), None)]
        try:
            yield
        finally:
            self.parts = own

    def reschedule(self, step: int, steps: int) -> bool:
        """Lets precision schedules set the phases of ``step``; whether any has changed."""
        before = list(self.phases)
        for i, recipe in enumerate(self._recipes):
            if recipe is not None and recipe.schedule is not None:
                self.phases[i] = recipe.schedule.phase(step, steps, None, self.phases[i])
        if self.phases == before:
            return False
        self.arrange()
        return True

    def tensors(self) -> dict[str, Tensor]:
        """No state outlives a step."""
        return {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None) -> Tensor:
        """q, k, v [E, B, H, T, D] -> [E, B, H, T, D]."""
        clock = numbered(self._clock, self.calls) if self.calls else self._clock  # each use draws bits of its own
        self.calls = None if self.calls is None else self.calls + 1
        outputs = [
            self._run(own, Operands(q[at], k[at], v[at], None if mask is None else mask[at]), causal, clock[at])
            for at, own in self.parts
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _run(
        self, own: Attention | AttentionProducts | None, operands: Operands, causal: bool, clock: Tensor
    ) -> Tensor:
        """One run of members, with the numerics ``own`` or, where that is None, by the model's own module."""
        q, k, v, mask = operands
        key = Key(clock, stream(self._index), sampling=self.training, matrices=q.shape[1:-2].numel())
        if isinstance(own, AttentionProducts):
            return attend_by(own.products(key), q, k, v, causal, mask)
        if own is not None:
            return attend(own, q, k, v, causal, mask, key)
        if mask is None:
            y: Tensor = torch.vmap(lambda q, k, v: self.plain(q, k, v, causal))(q, k, v)
        else:
            y = torch.vmap(lambda q, k, v, m: self.plain(q, k, v, causal, m))(q, k, v, mask)
        return y


class _StackedAttention(torch.autograd.Function):
    """Under ``torch.func.vmap``, which hands over the stack; autograd sees the parts."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, packed: PackAttention) -> Tensor:
        raise RuntimeError("a packed attention runs under torch.func.vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing: what the vmap rule calls keeps what the backward pass needs."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        packed: PackAttention,
    ) -> tuple[Tensor, int]:
        def stack(t: Tensor, dim: int | None) -> Tensor:
            return t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)

        q, k, v = (stack(x, dim) for x, dim in zip((q, k, v), in_dims[:3], strict=True))
        return packed(q, k, v, causal, None if mask is None else stack(mask, in_dims[3])), 0


class PackedAttention(nn.Module):
    """Module that replaces an attention of the template model."""

    def __init__(self, packed: PackAttention) -> None:
        super().__init__()
        self._packed = packed

    def forward(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        """q, k, v [B, H, T, D] -> [B, H, T, D]."""
        y: Tensor = _StackedAttention.apply(q, k, v, mask, causal, self._packed)  # type: ignore[no-untyped-call]
        return y
