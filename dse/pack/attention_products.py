"""Attention's two products for a run of members by the segments of packed layers, with any mix of numerics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from dse.nn.attention import Products, as_linear
from dse.nn.smoothing import Smoothed, smoothed
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
        groups = groupby(enumerate(numerics), lambda one: (one[1].smooth_keys, one[1].smooth_queries))
        runs = [list(run) for _, run in groups]
        self._smooth = [(slice(run[0][0], run[-1][0] + 1), run[0][1]) for run in runs]

    def products(self, key: Key) -> Products:
        """``key``: of the scores, with the members' clock [E, 2] and the matrices of each."""

        def scores(a: Tensor, b: Tensor) -> Tensor:
            y: Tensor = _SegmentProduct.apply(a, b, self._scores, key)  # type: ignore[no-untyped-call]
            return y

        def outputs(a: Tensor, b: Tensor) -> Tensor:
            above = replace(key, layer=key.layer + 1)
            y: Tensor = _SegmentProduct.apply(a, b, self._outputs, above)  # type: ignore[no-untyped-call]
            return y

        def smooth(q: Tensor, k: Tensor) -> Smoothed:
            done = []
            for members, own in self._smooth:
                at = slice(members.start * key.matrices, members.stop * key.matrices)
                done.append(smoothed(own, q[at], k[at], replace(key, clock=key.clock[members])))
            if len(done) == 1:
                return done[0]
            corrections = None
            if any(one.correction is not None for one in done):
                corrections = torch.cat([_added(one) for one in done])
            return Smoothed(torch.cat([one.q for one in done]), torch.cat([one.k for one in done]), corrections)

        return Products(scores, outputs, smooth)


def _added(one: Smoothed) -> Tensor:
    """What is added to scores; zeros, which change none, where that is nothing."""
    return one.q.new_zeros(*one.q.shape[:-1], one.k.shape[-2]) if one.correction is None else one.correction


__all__ = ["AttentionProducts"]
