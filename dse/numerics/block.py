"""The block quantizer f(X) = s_q Q(X / s_q), composed of small pieces.

One block: Z = statistic(X_p); s_q = q(S_enc Z / c); elements Q(X S_enc / s_q); decoded value Q s_q, with 1 / S_enc left
to the GEMM's epilogue. Source: arXiv 2509.17791, Def. 1 and Sec. 3; the decode convention is arXiv 2509.25149's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dse.kernels import cpu_loops
from dse.kernels.alignment import contiguous
from dse.numerics import micro_exponents
from dse.numerics.block_spec import BlockSpec
from dse.numerics.block_trace import BlockTrace, Decoded, Steps, unblocked
from dse.numerics.block_vjp import pulled_back, with_gain
from dse.numerics.blocked import CORRECTION_DRAW, ELEMENT_DRAW, SCALE_DRAW, blocked, draw, measured
from dse.numerics.cast import cast
from dse.numerics.compiled_blocks import BlockedOperand, LoopOptions, ScaleOptions, addressed, loop_options
from dse.numerics.grid import shift_codes
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.techniques.choices import Candidate
from dse.numerics.techniques.choices.base import closer
from dse.numerics.techniques.conventions import Factors, Level
from dse.numerics.techniques.outliers import Parts
from dse.numerics.techniques.statistics import ABSMAX, TENSOR, AbsMax, measure
from dse.numerics.techniques.tensor_scales import Current

_NOTHING = torch.empty(0)


class _BlockedOperand(NamedTuple):
    """An operand in blocks [..., R/t, t, K/b, b], and what all candidates share: Z, tensor scale, random bits."""

    blocks: Tensor
    z: Tensor
    level: Level | None
    bits: Tensor | None


@dataclass(frozen=True)
class BlockQuantizer(BlockSpec):
    """Elements in blocks that share a scale.

    What it consists of: ``BlockSpec``. Blocks of zeros stay zero. What is not finite never becomes finite, so loss
    scaling sees it behind any quantizer. A NaN makes its block NaN, with a tensor scale measured from it its operand.
    An infinity saturates its block's scale and element, whose product overflows again where the scale reaches FP32's
    range (E8M0, BF16, FP32): an infinity, and zeros beside it. Where it would not (UE4M3, UE5M3 ...) the block is NaN,
    and with a tensor scale measured from it the operand. A last block that the operand does not fill is measured
    without its padding.
    Raises OptionError for a value out of range.
    """

    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        if x.numel() == 0:
            return Quantized(x)
        if self.outliers is None:
            return self._quantize(x, key)
        parts = self.outliers.split(x)
        return _summed(parts, [self._quantize(part, key) for part in parts.quantized])

    def trace(self, x: Tensor, key: Key | None = None, candidate: int | None = None) -> BlockTrace:
        """f(X) and its parts, from one run of the steps that quantize; ``x`` must not be empty.

        ``candidate``: the number of the one candidate to try, as if a choice had no other; None: all.
        """
        split = None if self.outliers is None else self.outliers.split(x)
        main, *others = (x,) if split is None else split.quantized
        operand = self._operand(main, key)
        candidates = self._candidates() if candidate is None else (self._candidates()[candidate],)
        best = self._best(operand, candidates, key, traced=True)
        assert best.steps is not None
        quantized = self._finished(best, *x.shape[-2:])
        if split is not None:
            quantized = _summed(split, [quantized, *(self._quantize(part, key) for part in others)])
        return BlockTrace(
            quantized,
            split,
            operand.blocks,
            statistic=operand.z,
            level=operand.level,
            candidates=candidates,
            chosen=best.steps.chosen,
            factors=Factors(best.steps.encode, best.steps.decode, best.alpha),
            scaled=best.steps.scaled,
            elements=best.steps.elements,
            values=best.values,
        )

    def vjp(self, x: Tensor, g: Tensor, key: Key | None = None) -> Tensor:
        """g^T df/dx, all tensors [..., R, K]: autograd's, or with constant scales the same bits without a graph."""
        if self.straight_through or not self.constant_scales or x.numel() == 0:
            return super().vjp(x, g, key)
        with torch.no_grad():
            if self.outliers is None:
                return self._pulled_back(x, g, key)
            parts = self.outliers.split(x)
            return self.outliers.joined(x, [self._pulled_back(part, g, key) for part in parts.quantized], g)

    def _pulled_back(self, x: Tensor, g: Tensor, key: Key | None) -> Tensor:
        """The elementwise gradient, each candidate's in the blocks that have chosen it."""
        operand, candidates = self._operand(x, key), self._candidates()
        chosen = None
        if len(candidates) > 1:
            steps = self._best(operand, candidates, key, traced=True).steps
            assert steps is not None
            chosen = steps.chosen
        total: Tensor | None = None
        for number, how in enumerate(candidates):
            factors = self._spread(self._factors(operand.z, operand.level, how, key), operand.blocks, how)
            u = self._scaled(operand.blocks, factors, how)
            slope = None if self.slope.is_identity else self.slope(u, how.element)
            one = pulled_back(self._blocked(g), factors, (self.gain, self._undone, how.gain, how.multiple), slope)
            total = one if total is None or chosen is None else torch.where(chosen == number, one, total)
        assert total is not None
        total = total if chosen is None else total + 0.0  # autograd adds the others' zeros
        return unblocked(total, *x.shape[-2:])

    def _quantize(self, x: Tensor, key: Key | None) -> Quantized:
        if self._loop_options and cpu_loops.takes(x) and addressed(x, self.rounding.random_bits, key):
            return self._compiled(contiguous(x), key)
        best = self._best(self._operand(x, key), self._candidates(), key, traced=False)
        return self._finished(best, *x.shape[-2:])

    def __getstate__(self) -> dict[str, Any]:
        """Without what the loops read: arrays that come from another process may be such that they do not take."""
        return {name: value for name, value in vars(self).items() if name != "_loop_options"}

    @cached_property
    def _loop_options(self) -> tuple[LoopOptions, ...]:
        """The candidates' options for compiled loops; none where these do not cover the quantizer."""
        if self.correction is not None or self.micro_exponents:
            return ()
        found = []
        for how in self._candidates():
            level = self._for_candidate(Level(_NOTHING, self._target), how)
            base = None if self.tensor_scale is None else level.base
            scale = ScaleOptions(self.scale, self.scale_rounding, self.convention, level.target, base)
            found.append(loop_options(how, self.rounding, self.gain, scale))
        return () if None in found else tuple(filter(None, found))

    def _compiled(self, x: Tensor, key: Key | None) -> Quantized:
        """f(X) by compiled loops, from a contiguous x."""
        operand = BlockedOperand(x, *self.block_shape(*x.shape[-2:]))
        by_peak, scale = isinstance(self.statistic, AbsMax), self.tensor_scale
        peak, g = operand.absmax(scale is not None) if by_peak or scale is not None else (None, None)
        z = peak if peak is not None and by_peak else self._measured(x, self._blocked(x))
        if peak is not None and scale is not None and type(scale) is not Current:
            level = self._level(peak, peak, key)
            g = None if level is None else level.g
        drawn = key and key.fork(ELEMENT_DRAW)
        whole = g is None or g.shape == (*x.shape[:-2], 1, 1, 1, 1)
        folds = self.choice is None and not whole and g is not None and g.shape == z.shape
        best, alpha = None, None
        for options in self._loop_options:
            if options.scales and (whole or (g is not None and g.shape == z.shape)):
                values, own = operand.quantized(options, z, g, drawn, folds)
            else:
                factors = self._factors(z, None if g is None else Level(g, self._target), options.how, key)
                values, own = operand.from_factors(options, factors, drawn, folds), factors.alpha
            if best is None:
                best, alpha = values, own
            elif self.choice:
                operand.keep_closer(best, values, self._error_factor(alpha, z), self.choice)
        assert best is not None
        alpha = None if folds else alpha
        if alpha is None and self._undone == 1:
            return Quantized(best)
        if alpha is not None and alpha.shape == (*x.shape[:-2], 1, 1, 1, 1):
            alpha = alpha.view(*x.shape[:-2], 1, 1)
            return Quantized(best, alpha if self._undone == 1 else alpha * self._undone)
        return self._finished(Decoded(self._blocked(best), alpha, None), *x.shape[-2:])

    def _operand(self, x: Tensor, key: Key | None) -> _BlockedOperand:
        blocks = self._blocked(x)
        z = self._measured(x, blocks)
        level = self._level(blocks, z, key)
        return _BlockedOperand(blocks, z, level, draw(self.rounding, blocks, key, ELEMENT_DRAW))

    def _finished(self, best: Decoded, rows: int, columns: int) -> Quantized:
        """The operand [..., R, K] from its chosen values, and the factor for the epilogue."""
        values, alpha, _ = best
        if alpha is not None and alpha.shape[-4:] != (1, 1, 1, 1):
            values, alpha = values * alpha, None
        if self._undone != 1:
            alpha = torch.full_like(values[..., :1, :1, :1, :1], 1.0) if alpha is None else alpha
            alpha = alpha * self._undone  # times the inverse: CUDA divides by a number so
        out = unblocked(values, rows, columns)
        return Quantized(out, None if alpha is None else alpha.flatten(-4, -3).flatten(-2))

    def _best(
        self, operand: _BlockedOperand, candidates: tuple[Candidate, ...], key: Key | None, traced: bool
    ) -> Decoded:
        """The first candidate, replaced in blocks where a later one has a strictly smaller error."""
        corrects = self.correction is not None
        best = self._candidate(operand, candidates, 0, key, traced or corrects)
        for number in range(1, len(candidates)):
            other = self._candidate(operand, candidates, number, key, traced or corrects)
            best = best.replaced(self._closer(other.values, best.values, operand.blocks, best.alpha), other)
        return self._corrected(best, candidates, operand.blocks, key) if corrects else best

    def _corrected(self, best: Decoded, candidates: tuple[Candidate, ...], blocks: Tensor, key: Key | None) -> Decoded:
        """With the scales that the correction makes of a block's; the gradient passes as without it."""
        assert self.correction is not None
        assert best.steps is not None
        values, steps = best.values.detach(), best.steps
        each, s_q = self._error_factor(best.alpha, values).detach(), steps.decode[..., :1, :, :1].detach()
        y, step = values.double() * each, s_q.double() * each
        s = (s_q.double() * self.correction.factor(blocks.detach(), y, step)).to(values.dtype)
        rounding = self.correction.rounding()
        s_q = cast(s, self.scale, rounding, bits=draw(rounding, s, key, CORRECTION_DRAW))
        elements = steps.elements.detach()
        for number, how in enumerate(candidates):
            if how.multiple != 1:
                elements = torch.where(steps.chosen == number, steps.elements.detach() * how.multiple, elements)
        new = elements * s_q
        if best.values.requires_grad:
            new = new + (best.values - values)
        return Decoded(new, best.alpha, steps._replace(decode=s_q.expand_as(steps.decode)))

    def _candidate(
        self, operand: _BlockedOperand, candidates: tuple[Candidate, ...], number: int, key: Key | None, traced: bool
    ) -> Decoded:
        """The operand quantized by one of the candidates."""
        blocks, how = operand.blocks, candidates[number]
        factors = self._spread(self._factors(operand.z, operand.level, how, key), blocks, how)
        u = self._scaled(blocks, factors, how)
        q = cast(u, how.element, self.rounding, self.slope, operand.bits)
        chosen = torch.full_like(blocks[..., :1, :, :1], number, dtype=torch.int64) if traced else None
        steps = None if chosen is None else Steps(u, q, factors.encode, factors.decode, chosen)
        del u
        values = q * factors.decode
        if how.multiple != 1:
            q, values = q * how.multiple, values * how.multiple
        if values.requires_grad:  # where the factors' product is not 1 (a scale that is 0, or has no inverse): Q' alone
            broken = (factors.decode == 0) | (factors.encode == torch.finfo(values.dtype).max)
            passed = q / factors.encode.detach()
            passed = passed if factors.alpha is None else passed / factors.alpha.detach()
            values = torch.where(broken, values.detach() + (passed - passed.detach()), values)
        return Decoded(values, factors.alpha, steps)

    def _closer(self, y: Tensor, best: Tensor, blocks: Tensor, alpha: Tensor | None) -> Tensor:
        """Whether the decoded values ``y`` have a smaller error than ``best``; ``alpha`` without the gain's part."""
        assert self.choice is not None
        return closer(y, best, blocks, self._error_factor(alpha, y), self.choice.error)

    def _error_factor(self, alpha: Tensor | None, like: Tensor) -> Tensor:
        """What decoded values are multiplied by in the end; ``like``: of the operand's leading axes."""
        factor = torch.ones_like(like[..., :1, :1, :1, :1]) if alpha is None else alpha
        return factor if self._undone == 1 else factor * self._undone

    def _spread(self, factors: Factors, blocks: Tensor, how: Candidate) -> Factors:
        """One encode and decode factor per element, with the micro-exponents; those of blocks without any."""
        if not self.micro_exponents:
            return factors
        double = micro_exponents.factor(self._scaled(blocks, factors, how), self.micro_exponents, how.element)
        return factors._replace(encode=factors.encode / double, decode=factors.decode * double)

    def _scaled(self, blocks: Tensor, factors: Factors, how: Candidate) -> Tensor:
        """What elements are cast from."""
        u = blocks * with_gain(factors.encode, self.gain)
        return u if how.gain == 1 else u * how.gain

    def _factors(self, z: Tensor, level: Level | None, how: Candidate, key: Key | None) -> Factors:
        """Encode and decode factors of each block (shape of ``z``), and alpha."""
        bits = draw(self.scale_rounding, z, key, SCALE_DRAW)
        level = None if level is None else self._for_candidate(level, how)

        def quantize(s: Tensor) -> Tensor:
            s_q = cast(s, self.scale, self.scale_rounding, self.scale_slope, bits)
            return shift_codes(s_q, self.scale, how.codes) if how.codes else s_q

        factors = self.convention.factors(z, how.constant, level, self.scale, quantize)
        if how.element.max * how.multiple * self.convention.largest(self.scale) > torch.finfo(z.dtype).max:
            return factors
        return factors._replace(decode=factors.decode + (z - z).detach())  # an infinite Z: NaN, else the same bits

    def _blocked(self, x: Tensor) -> Tensor:
        return blocked(x, *self.block_shape(*x.shape[-2:]))

    def _measured(self, x: Tensor, blocks: Tensor) -> Tensor:
        return measured(x, blocks, self.statistic, self.scale_gradient)

    def _level(self, blocks: Tensor, z: Tensor, key: Key | None) -> Level | None:
        """The tensor scale's reference and target, or None."""
        if self.tensor_scale is None:
            return None
        if self.tensor_scale.gradient == "exact":
            return Level(measure(blocks, ABSMAX, "full", TENSOR), self._target)
        peak = z.detach() if isinstance(self.statistic, AbsMax) else measure(blocks.detach(), ABSMAX)
        if peak.shape[-1] != 1:  # 'diagonal' keeps a copy per element
            peak = measure(blocks.detach(), ABSMAX)
        return Level(self.tensor_scale.reference(peak, key), self._target)


def _summed(parts: Parts, quantized: list[Quantized]) -> Quantized:
    """f(X) from the parts that outlier handling has split X into, once they are quantized."""
    if len(quantized) == 1 and parts.remainder is None:
        return quantized[0]
    exact = [] if parts.remainder is None else [parts.remainder]
    return Quantized(reduce(torch.add, [q.dequantize() for q in quantized] + exact))
