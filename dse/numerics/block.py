"""The block quantizer f(X) = s_q Q(X / s_q), composed of small pieces.

One block: Z = statistic(X_p); s_q = q(S_enc Z / c); elements Q(X S_enc / s_q); decoded value Q s_q, with 1 / S_enc left
to the GEMM's epilogue. Source: arXiv 2509.17791, Def. 1 and Sec. 3; the decode convention is arXiv 2509.25149's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError, nearest
from dse.kernels import cpu_loops
from dse.kernels.alignment import contiguous
from dse.numerics import micro_exponents
from dse.numerics.block_trace import BlockTrace, unblocked
from dse.numerics.block_vjp import pulled_back, with_gain
from dse.numerics.cast import cast
from dse.numerics.compiled_blocks import BlockedOperand, LoopOptions, ScaleOptions, addressed, loop_options
from dse.numerics.formats import E2M1, E8M0, Format
from dse.numerics.grid import shift_codes
from dse.numerics.ops import FREE, Ops
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.choices import Candidate, Choice
from dse.numerics.techniques.choices.base import closer
from dse.numerics.techniques.conventions import DECODE, Convention, Factors, Level
from dse.numerics.techniques.corrections import Correction
from dse.numerics.techniques.outliers import Outliers, Parts
from dse.numerics.techniques.rounding import NEAREST_EVEN, Rounding
from dse.numerics.techniques.slopes import STRAIGHT_THROUGH, Slope
from dse.numerics.techniques.statistics import ABSMAX, GRADIENTS, TENSOR, AbsMax, Statistic, measure
from dse.numerics.techniques.tensor_scales import Current, TensorScale

_ELEMENT_DRAW, _SCALE_DRAW, _CORRECTION_DRAW = 0, 1, 2
_NOTHING = torch.empty(0)


class _BlockedOperand(NamedTuple):
    """An operand in blocks [..., R/t, t, K/b, b], and what all candidates share: Z, tensor scale, random bits."""

    blocks: Tensor
    z: Tensor
    level: Level | None
    bits: Tensor | None


class _Steps(NamedTuple):
    """What one candidate makes of the blocks on the way to their values; see ``BlockTrace``."""

    scaled: Tensor
    elements: Tensor
    encode: Tensor
    decode: Tensor
    chosen: Tensor


class _Decoded(NamedTuple):
    """Decoded values in blocks, without alpha; ``steps``: None where nobody wants them, which frees their memory."""

    values: Tensor
    alpha: Tensor | None
    steps: _Steps | None

    def replaced(self, where: Tensor, by: _Decoded) -> _Decoded:
        """With those of ``by`` in the blocks of a mask; alpha stays."""
        values = torch.where(where, by.values, self.values)
        if self.steps is None or by.steps is None:
            return _Decoded(values, self.alpha, None)
        steps = (torch.where(where, new, old) for new, old in zip(by.steps, self.steps, strict=True))
        return _Decoded(values, self.alpha, _Steps(*steps))


@dataclass(frozen=True)
class BlockQuantizer(Quantizer):
    """Elements in blocks that share a scale.

    - ``element``, ``scale``: formats of the elements and of the block scale;
    - ``block``: elements along the contraction axis that share a scale; ``tile``: rows that share it. 0 means all:
      ``block: 0`` is one scale per row (per token, per channel), with ``tile: 0`` per tensor;
    - ``rounding``, ``scale_rounding``: of elements and of scales; ``slope``, ``scale_slope``: their Q' and q';
    - ``statistic``: Z; ``scale_gradient``: 'constant', 'full' or 'diagonal', how Z takes part in the backward pass;
    - ``constant``: c, the element value that Z is mapped to (default: the largest element; OCP MX uses the largest
      power of two, 4 for E2M1); above the largest element it clips, 6 / .92 by 8 % of Z;
    - ``gain``: elements are cast from gain * X / s_q and decoded by 1 / gain (3/4 keeps OCP floor scales from
      saturating under stochastic rounding); it is applied in the epilogue;
    - ``convention``: decode or encode; ``tensor_scale``: a second-level FP32 scale, or none;
    - ``outliers``: what is split off before; ``choice``: several candidates per block, or none;
    - ``correction``: what makes new scales once the elements are known, or nothing;
    - ``micro_exponents``: sizes of parts of a block (of all its rows) whose scale a bit of their own may double, each
      a part of the one before: HiFloat4's [8, 4].

    Blocks of zeros stay zero. What is not finite never becomes finite, so loss scaling sees it behind any quantizer. A
    NaN makes its block NaN, with a tensor scale measured from it its operand. An infinity saturates its block's scale
    and element, whose product overflows again where the scale reaches FP32's range (E8M0, BF16, FP32): an infinity, and
    zeros beside it. Where it would not (UE4M3, UE5M3 ...) the block is NaN, and with a tensor scale measured from it
    the operand. A last block that the operand does not fill is measured without its padding.
    Raises OptionError for a value out of range.
    """

    element: Format = E2M1
    scale: Format = E8M0
    block: int = 32
    tile: int = 1
    rounding: Rounding = NEAREST_EVEN
    scale_rounding: Rounding = NEAREST_EVEN
    slope: Slope = STRAIGHT_THROUGH
    scale_slope: Slope = STRAIGHT_THROUGH
    statistic: Statistic = ABSMAX
    scale_gradient: str = "constant"
    constant: float | None = None
    gain: float = 1.0
    convention: Convention = DECODE
    tensor_scale: TensorScale | None = None
    outliers: Outliers | None = None
    choice: Choice | None = None
    correction: Correction | None = None
    micro_exponents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("block", "tile"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must be at least 0 (0: all), not {getattr(self, name)}")
        if self.constant is not None and not 0 < self.constant < float("inf"):
            raise OptionError(f"constant must be positive and finite, not {self.constant}")
        micro_exponents.check(self.micro_exponents, self.block)
        if not 0 < self.gain <= 1:
            raise OptionError(f"gain must lie in (0, 1], not {self.gain}")
        if (
            self.choice is not None
            and any(c.codes for c in self._candidates())
            and self.scale.exp + self.scale.man > 15
        ):
            raise OptionError(f"scale_sweep needs a scale format with few codes, not {self.scale.name}")
        if self.scale_gradient not in GRADIENTS:
            raise OptionError(
                f"scale_gradient cannot be {self.scale_gradient!r}{nearest(self.scale_gradient, GRADIENTS)}"
            )

    @property
    def straight_through(self) -> bool:
        return (
            self.slope.is_identity
            and self.scale_gradient == "constant"
            and self.convention.encode_with == "quantized"
            and (self.outliers is None or self.outliers.straight_through)
            and (self.tensor_scale is None or self.tensor_scale.gradient == "ignore")
        )

    @property
    def random_bits(self) -> int:
        again = 0 if self.correction is None else self.correction.rounding().random_bits
        return max(self.rounding.random_bits, self.scale_rounding.random_bits, again)

    @property
    def remembers(self) -> bool:
        return self.tensor_scale is not None and self.tensor_scale.remembers

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

    @property
    def constant_scales(self) -> bool:
        """Whether the backward pass takes all scales as constants, so that an element's gradient is its own affair."""
        ignored = self.tensor_scale is None or self.tensor_scale.gradient == "ignore"
        return self.scale_gradient == "constant" and ignored

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
        drawn = key and key.fork(_ELEMENT_DRAW)
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
        return self._finished(_Decoded(self._blocked(best), alpha, None), *x.shape[-2:])

    def _operand(self, x: Tensor, key: Key | None) -> _BlockedOperand:
        blocks = self._blocked(x)
        z = self._measured(x, blocks)
        level = self._level(blocks, z, key)
        return _BlockedOperand(blocks, z, level, _draw(self.rounding, blocks, key, _ELEMENT_DRAW))

    def _finished(self, best: _Decoded, rows: int, columns: int) -> Quantized:
        """The operand [..., R, K] from its chosen values, and the factor for the epilogue."""
        values, alpha, _ = best
        if alpha is not None and alpha.shape[-4:] != (1, 1, 1, 1):
            values, alpha = values * alpha, None
        if self._undone != 1:
            alpha = torch.full_like(values[..., :1, :1, :1, :1], 1.0) if alpha is None else alpha
            alpha = alpha * self._undone  # times the inverse: CUDA divides by a number so
        out = unblocked(values, rows, columns)
        return Quantized(out, None if alpha is None else alpha.flatten(-4, -3).flatten(-2))

    def _candidates(self) -> tuple[Candidate, ...]:
        c = self.element.max if self.constant is None else self.constant
        return (Candidate(self.element, c),) if self.choice is None else self.choice.candidates(self.element, c)

    def _best(
        self, operand: _BlockedOperand, candidates: tuple[Candidate, ...], key: Key | None, traced: bool
    ) -> _Decoded:
        """The first candidate, replaced in blocks where a later one has a strictly smaller error."""
        corrects = self.correction is not None
        best = self._candidate(operand, candidates, 0, key, traced or corrects)
        for number in range(1, len(candidates)):
            other = self._candidate(operand, candidates, number, key, traced or corrects)
            best = best.replaced(self._closer(other.values, best.values, operand.blocks, best.alpha), other)
        return self._corrected(best, candidates, operand.blocks, key) if corrects else best

    def _corrected(
        self, best: _Decoded, candidates: tuple[Candidate, ...], blocks: Tensor, key: Key | None
    ) -> _Decoded:
        """With the scales that the correction makes of a block's; the gradient passes as without it."""
        assert self.correction is not None
        assert best.steps is not None
        values, steps = best.values.detach(), best.steps
        each, s_q = self._error_factor(best.alpha, values).detach(), steps.decode[..., :1, :, :1].detach()
        y, step = values.double() * each, s_q.double() * each
        s = (s_q.double() * self.correction.factor(blocks.detach(), y, step)).to(values.dtype)
        rounding = self.correction.rounding()
        s_q = cast(s, self.scale, rounding, bits=_draw(rounding, s, key, _CORRECTION_DRAW))
        elements = steps.elements.detach()
        for number, how in enumerate(candidates):
            if how.multiple != 1:
                elements = torch.where(steps.chosen == number, steps.elements.detach() * how.multiple, elements)
        new = elements * s_q
        if best.values.requires_grad:
            new = new + (best.values - values)
        return _Decoded(new, best.alpha, steps._replace(decode=s_q.expand_as(steps.decode)))

    def _candidate(
        self, operand: _BlockedOperand, candidates: tuple[Candidate, ...], number: int, key: Key | None, traced: bool
    ) -> _Decoded:
        """The operand quantized by one of the candidates."""
        blocks, how = operand.blocks, candidates[number]
        factors = self._spread(self._factors(operand.z, operand.level, how, key), blocks, how)
        u = self._scaled(blocks, factors, how)
        q = cast(u, how.element, self.rounding, self.slope, operand.bits)
        chosen = torch.full_like(blocks[..., :1, :, :1], number, dtype=torch.int64) if traced else None
        steps = None if chosen is None else _Steps(u, q, factors.encode, factors.decode, chosen)
        del u
        values = q * factors.decode
        if how.multiple != 1:
            q, values = q * how.multiple, values * how.multiple
        if values.requires_grad:  # where the factors' product is not 1 (a scale that is 0, or has no inverse): Q' alone
            broken = (factors.decode == 0) | (factors.encode == torch.finfo(values.dtype).max)
            passed = q / factors.encode.detach()
            passed = passed if factors.alpha is None else passed / factors.alpha.detach()
            values = torch.where(broken, values.detach() + (passed - passed.detach()), values)
        return _Decoded(values, factors.alpha, steps)

    def _closer(self, y: Tensor, best: Tensor, blocks: Tensor, alpha: Tensor | None) -> Tensor:
        """Whether the decoded values ``y`` have a smaller error than ``best``; ``alpha`` without the gain's part."""
        assert self.choice is not None
        return closer(y, best, blocks, self._error_factor(alpha, y), self.choice.error)

    def _error_factor(self, alpha: Tensor | None, like: Tensor) -> Tensor:
        """What decoded values are multiplied by in the end; ``like``: of the operand's leading axes."""
        factor = torch.ones_like(like[..., :1, :1, :1, :1]) if alpha is None else alpha
        return factor if self._undone == 1 else factor * self._undone

    @property
    def _undone(self) -> float:
        """What undoes the gain, and the unit of a choice's values."""
        return (1.0 if self.choice is None else self.choice.unit) / self.gain

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
        bits = _draw(self.scale_rounding, z, key, _SCALE_DRAW)
        level = None if level is None else self._for_candidate(level, how)

        def quantize(s: Tensor) -> Tensor:
            s_q = cast(s, self.scale, self.scale_rounding, self.scale_slope, bits)
            return shift_codes(s_q, self.scale, how.codes) if how.codes else s_q

        factors = self.convention.factors(z, how.constant, level, self.scale, quantize)
        if how.element.max * how.multiple * self.convention.largest(self.scale) > torch.finfo(z.dtype).max:
            return factors
        return factors._replace(decode=factors.decode + (z - z).detach())  # an infinite Z: NaN, else the same bits

    def _measured(self, x: Tensor, blocks: Tensor) -> Tensor:
        """Z of each block, of x [..., R, K] alone where ``blocks`` has padding that the statistic would count."""
        tile, block = blocks.shape[-3], blocks.shape[-1]
        if not self.statistic.counts_zeros or x.shape[-2] % tile == x.shape[-1] % block == 0:
            return measure(blocks, self.statistic, self.scale_gradient)
        copies = self.scale_gradient == "diagonal" and x.requires_grad and torch.is_grad_enabled()
        rows = []
        for part, height in _filled(x, -2, tile):
            row = []
            for corner, width in _filled(part, -1, block):
                whole = corner.contiguous().unflatten(-1, (-1, width)).unflatten(-3, (-1, height))
                z = measure(whole, self.statistic, self.scale_gradient)
                if copies:  # one per element, see ``measure``
                    z = pad(z, (0, block - width, 0, 0, 0, tile - height), value=1.0)
                row.append(z)
            rows.append(torch.cat(row, -2))
        return torch.cat(rows, -4)

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

    @property
    def _target(self) -> float:
        """T of the tensor scale; c times a largest value of 2^127 is beyond FP32."""
        own = self.tensor_scale and self.tensor_scale.target
        return own or (self.scale.max if self.scale.exp < 8 else 1.0)

    def _for_candidate(self, level: Level, how: Candidate) -> Level:
        """With a choice among constants, S_enc is that of the quantizer's own c, so that every candidate shares it."""
        if self.choice is None:
            return level
        own = self._candidates()[0].constant
        return Level(level.g, level.target * own / how.constant, own if self.choice.divides else None)

    def _blocked(self, x: Tensor) -> Tensor:
        """[..., R, K] -> [..., R/t, t, K/b, b], padded with zeros, which no statistic counts (see ``_measured``)."""
        rows, columns = x.shape[-2:]
        tile, block = self.block_shape(rows, columns)
        extra = (-columns % block, -rows % tile)
        if any(extra):
            x = pad(x, (0, extra[0], 0, extra[1]))
        blocks: Tensor = contiguous(x).unflatten(-1, (-1, block)).unflatten(-3, (-1, tile))
        return blocks

    def block_shape(self, rows: int, columns: int) -> tuple[int, int]:
        return min(self.tile or rows, rows), min(self.block or columns, columns)  # a larger one is cut, not padded

    def ops(self) -> tuple[tuple[str, Ops], ...]:
        base = Ops(element=2, block=2, why="scale and cast 2/element, divide and cast the scale 2/block")
        statistic = self.statistic.ops()
        if self.block == self.tile == 0 and self.tensor_scale is None:  # whose own pass finds both
            statistic = replace(statistic, reads=1, syncs=1, why=f"{statistic.why}, over the whole operand first")
        return _at_work(
            (f"{self.element.name} in blocks", base),
            ("statistic", statistic),
            ("convention", self.convention.ops()),
            ("element rounding", self.rounding.ops()),
            ("scale rounding", _per_block(self.scale_rounding.ops())),
            ("tensor scale", self.tensor_scale.ops() if self.tensor_scale else FREE),
            ("outliers", self.outliers.ops() if self.outliers else FREE),
            ("choice", self.choice.ops() if self.choice else FREE),
            ("micro-exponents", _micro(len(self.micro_exponents))),
            ("correction", self.correction.ops() if self.correction else FREE),
        )

    def vjp_ops(self) -> tuple[tuple[str, Ops], ...]:
        constant = self.scale_gradient == "constant"
        return _at_work(
            ("element slope", self.slope.ops()),
            ("scale gradient", FREE if constant else self.statistic.slope_ops()),
            ("scale slope", FREE if constant else _per_block(self.scale_slope.ops())),
            ("tensor scale gradient", self.tensor_scale.slope_ops() if self.tensor_scale else FREE),
        )


def _summed(parts: Parts, quantized: list[Quantized]) -> Quantized:
    """f(X) from the parts that outlier handling has split X into, once they are quantized."""
    if len(quantized) == 1 and parts.remainder is None:
        return quantized[0]
    exact = [] if parts.remainder is None else [parts.remainder]
    return Quantized(reduce(torch.add, [q.dequantize() for q in quantized] + exact))


def _filled(x: Tensor, axis: int, size: int) -> list[tuple[Tensor, int]]:
    """The part of ``x`` that whole pieces of ``size`` fill along an axis, and the rest, each with its piece's size."""
    extent = x.shape[axis]
    parts = (
        (x.narrow(axis, 0, extent - extent % size), size),
        (x.narrow(axis, extent - extent % size, extent % size), extent % size),
    )
    return [(part, piece) for part, piece in parts if part.shape[axis]]


def _at_work(*parts: tuple[str, Ops]) -> tuple[tuple[str, Ops], ...]:
    """The parts that cost anything."""
    return tuple((name, ops) for name, ops in parts if ops != Ops(why=ops.why))


def _micro(levels: int) -> Ops:
    return Ops(element=2 * levels, why=f"abs and max, 2/element for each of {levels} levels")


def _per_block(ops: Ops) -> Ops:
    """Counts of a technique that works on scales: what it costs per element it costs per block."""
    return Ops(
        block=ops.element + ops.block,
        block_bits=ops.random_bits + ops.block_bits,
        why=ops.why.replace("/element", "/block"),
    )


def _draw(rounding: Rounding, x: Tensor, key: Key | None, draw: int) -> Tensor | None:
    """Random bits for ``x`` [..., A, B, C, D], laid out as the [A B, C D] matrix it is a view of.

    Scales draw once per block, even where 'diagonal' keeps a copy per element.
    """
    if not rounding.random_bits:
        return None
    if key is None:
        raise ValueError(f"{rounding} needs a Key")
    a, b, c, d = x.shape[-4:]
    if draw == _SCALE_DRAW:
        b = d = 1
    bits: Tensor = key.fork(draw).bits(a * b, c * d, rounding.random_bits).unflatten(-1, (c, d)).unflatten(-3, (a, b))
    return bits
