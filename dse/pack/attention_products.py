"""Attention's two products for a run of members by the segments of packed layers, with any mix of numerics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from dse.nn.attention import Products, as_linear, centered
from dse.numerics.attention import Attention
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.pack.segmentation import partition
from dse.pack.segments import LayerOperands, Segment


class _SegmentProduct(torch.autograd.Function):
    """a b^T of E members with the key's matrices each: a [S, M, K], b [S, N, K] float32 -> [S, M, N], S of all."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, segments: tuple[Segment, ...], key: Key) -> Tensor:
        needs = (a.requires_grad, b.requires_grad)
        outputs, held = [], []
        for segment in segments:
            operands = LayerOperands(a, b).of(_matrices(segment, key))
            y, kept = segment.forward(operands, _context(segment, key), needs)
            outputs.append(y)
            held.append(kept)
        ctx.segments, ctx.key, ctx.held = segments, key, [h._replace(tensors=()) for h in held]
        ctx.counts = [len(h.tensors) for h in held]
        ctx.save_for_backward(*(t for h in held for t in h.tensors))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (g,), saved, needs, found = grads, list(ctx.saved_tensors), tuple(ctx.needs_input_grad[:2]), []
        for segment, count, bare in zip(ctx.segments, ctx.counts, ctx.held, strict=True):
            held, saved = bare._replace(tensors=tuple(saved[:count])), saved[count:]
            found.append(segment.backward(held, g[_matrices(segment, ctx.key)], _context(segment, ctx.key), needs))
        da, db = (
            torch.cat([pair[i] for pair in found]) if len(found) > 1 else found[0][i] if needs[i] else None
            for i in (0, 1)
        )
        return da, db, None, None


def _matrices(segment: Segment, key: Key) -> slice:
    """Those of a segment's members."""
    return slice(segment.start * key.matrices, segment.stop * key.matrices)


def _context(segment: Segment, key: Key) -> LinearContext:
    return LinearContext(replace(key, clock=key.clock[segment.members]))


class AttentionProducts:
    """The products of members with quantized attention, each a packed layer without a weight of its own."""

    def __init__(self, numerics: Sequence[Attention], device: torch.device) -> None:
        owners = [None] * len(numerics)
        self._scores = partition([as_linear(own.scores) for own in numerics], owners, device, True)
        self._outputs = partition([as_linear(own.outputs) for own in numerics], owners, device, True)
        runs = [(smooth, len(list(run))) for smooth, run in groupby(own.smooth_keys for own in numerics)]
        self._smooth = tuple(runs)

    def products(self, key: Key) -> Products:
        """``key``: of the scores, with the members' clock [E, 2] and the matrices of each."""

        def scores(a: Tensor, b: Tensor) -> Tensor:
            y: Tensor = _SegmentProduct.apply(a, b, self._scores, key)  # type: ignore[no-untyped-call]
            return y

        def outputs(a: Tensor, b: Tensor) -> Tensor:
            above = replace(key, layer=key.layer + 1)
            y: Tensor = _SegmentProduct.apply(a, b, self._outputs, above)  # type: ignore[no-untyped-call]
            return y

        def keys(k: Tensor) -> Tensor:
            parts = k.split([count * key.matrices for _, count in self._smooth])
            done = [centered(part) if smooth else part for part, (smooth, _) in zip(parts, self._smooth, strict=True)]
            return done[0] if len(done) == 1 else torch.cat(done)

        return Products(scores, outputs, keys)


__all__ = ["AttentionProducts"]
