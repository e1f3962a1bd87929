"""Attention with quantized products: softmax(Q K^T / sqrt(D)) V under the numerics of ``dse.numerics.attention``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dse.kernels.softmax import attention_weights
from dse.nn.clock import Calls, Clocked
from dse.nn.smoothing import Smoothed, smoothed
from dse.nn.uncompiled import uncompiled
from dse.numerics.attention import Attention, Product
from dse.numerics.autocast import output_dtype, without_autocast
from dse.numerics.linear_autograd import linear
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.schedules.base import FULL, OFF, PHASES, SWITCHED
from dse.recipes.bf16 import BF16

_STREAM = 1 << 20
"""Attention i draws its random bits as layers _STREAM + 2 i (scores) and the next (outputs), apart from all linears."""


def stream(index: int) -> int:
    """The layer number of attention ``index`` in its keys."""
    return _STREAM + 2 * index


class Products(NamedTuple):
    """Attention's two products a b^T of stacks [S, ..., ...] of FP32 matrices, and the smoothing of Q and K before."""

    scores: Callable[[Tensor, Tensor], Tensor]
    outputs: Callable[[Tensor, Tensor], Tensor]
    smooth: Callable[[Tensor, Tensor], Smoothed]


def attend(numerics: Attention, q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None, key: Key) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, over q, k, v [..., T, D]; with ``causal``, token i sees the tokens up to itself.

    Leading axes are samples and heads, after the members' where the key's clock has one. ``mask`` [..., T, T]
    multiplies the weights (dropout). FP32 inside, and in the dtype of q outside.
    """
    members = key.clock.shape[:-1].numel()
    key = replace(key, matrices=q.shape[:-2].numel() // members)

    def product(own: Product, layer: int) -> Callable[[Tensor, Tensor], Tensor]:
        context = LinearContext(replace(key, layer=layer))
        return lambda a, b: linear(a, b, as_linear(own), context)

    products = Products(
        product(numerics.scores, key.layer),
        product(numerics.outputs, key.layer + 1),
        lambda q, k: smoothed(numerics, q, k, key),
    )
    return attend_by(products, q, k, v, causal, mask)


def attend_by(products: Products, q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None) -> Tensor:
    """``attend`` with its products and its smoothing given."""
    lead, dtype, wide = q.shape[:-2], q.dtype, torch.promote_types(q.dtype, torch.float32)
    q, k, v = (x.to(wide).flatten(0, -3).contiguous() for x in (q, k, v))  # alone, one matrix would be a view
    with without_autocast(q):
        q, k, correction = products.smooth(q, k)
        s = products.scores(q, k)
        s = s if correction is None else s + correction
        p = attention_weights(s, 1 / math.sqrt(q.shape[-1]), causal)
        if mask is not None:
            p = p * mask.flatten(0, -3)
        y = products.outputs(p, v.mT)
    whole: Tensor = y.unflatten(0, lead).to(dtype)
    return whole


def at_work(recipe: Recipe | None, phase: str) -> Attention | None:
    """The numerics of attention in a phase of the precision schedule: all, the forward products only, or none."""
    own = recipe.attention if recipe else None
    if own is None or phase in (OFF, SWITCHED):
        return None
    if phase == FULL:
        return own
    scores, outputs = (replace(x, dgrad=BF16.dgrad, wgrad=BF16.wgrad) for x in (own.scores, own.outputs))
    return replace(own, scores=scores, outputs=outputs)


@lru_cache(maxsize=1024)
def as_linear(product: Product) -> Recipe:
    """A product of attention as a linear's recipe."""
    return Recipe(
        fprop=product.fprop, dgrad=product.dgrad, wgrad=product.wgrad, backward_source=product.backward_source
    )


class QuantizedAttention(Clocked):
    """Takes the place of an attention (``dse.nn.select.attentions``), which it becomes again where a schedule says so.

    ``clock`` int64 [2]: seed and step; ``phase_index``, in the state dict: the schedule's, where the recipe has one.
    Raises RuntimeError for operands that do not fit together.
    """

    phase_index: Tensor | None

    def __init__(self, plain: nn.Module, recipe: Recipe, index: int) -> None:
        super().__init__()
        self.plain, self.recipe, self.index = plain, recipe, index
        self.calls = Calls(None)
        self.register_buffer("phase_index", torch.zeros((), dtype=torch.int8) if recipe.schedule else None)

    @property
    def phase(self) -> str:
        """The schedule's phase."""
        return FULL if self.phase_index is None else PHASES[int(self.phase_index)]

    def set_clock(self, seed: int, step: int, steps: int | None = None, rank: int = 0) -> None:
        """See ``dse.nn.quantize.set_clock``."""
        self.calls.set(seed, step, rank)
        if self.recipe.schedule is not None and self.phase_index is not None and steps is not None:
            self.phase_index.fill_(PHASES.index(self.recipe.schedule.phase(step, steps, None, self.phase)))

    @uncompiled
    def forward(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        """q, k, v [B, H, T, D] -> [B, H, T, D]."""
        numerics = at_work(self.recipe, self.phase)
        if numerics is None:
            y: Tensor = self.plain(q, k, v, causal, mask)
            return y
        _check(q, k, v)
        clock = self.calls.address([q, k, v]) if self.training else self.clock
        key = Key(clock, stream(self.index), sampling=self.training)
        return attend(numerics, q, k, v, causal, mask, key).to(output_dtype(q))

    def extra_repr(self) -> str:
        return f"recipe={self.recipe.name!r}"


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raises RuntimeError unless q [..., T, D], k [..., S, D], v [..., S, E] are of the same samples and heads."""
    if q.shape[:-2] != k.shape[:-2] or k.shape[:-1] != v.shape[:-1] or q.shape[-1] != k.shape[-1]:
        raise RuntimeError(f"QuantizedAttention got q, k, v of {list(q.shape)}, {list(k.shape)}, {list(v.shape)}")


__all__ = ["Products", "QuantizedAttention", "as_linear", "at_work", "attend", "attend_by", "stream"]
