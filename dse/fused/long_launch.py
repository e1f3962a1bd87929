"""Launching the passes over blocks that no program holds, such as whole rows and tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dse.fused.block_table import BlockTable
from dse.fused.carried import KeptScale
from dse.fused.device_code import ERRORS, CorrectionCode, candidates, correction_code, statistic_code
from dse.kernels import SumFactors
from dse.kernels.tree import fold
from dse.numerics.random import Key
from dse.numerics.techniques.tensor_scales import Outer

_ELEMENTS = 2048
"""Of a program."""
KEPT: dict[str | None, int] = {None: 0, "outer": 1, "block": 2}
"""What kernels call the scale that they keep out of the values."""
_BLOCKS = 128
"""Of a program that computes factors."""


@dataclass(frozen=True)
class LongBlocks:
    """Operands x [E, R, K] in blocks of ``height`` x ``width``: ``tiles`` down, ``blocks`` along."""

    x: Tensor
    table: BlockTable
    key: Key
    height: int
    width: int

    @property
    def tiles(self) -> int:
        return -(-self.x.shape[1] // self.height)

    @property
    def blocks(self) -> int:
        return -(-self.x.shape[2] // self.width)

    @property
    def source(self) -> tuple[Any, ...]:
        """x, its strides and its sizes."""
        return self.x, *self.x.stride(), *self.x.shape[1:]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.height, self.width, self.tiles, self.blocks

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The clock, what else addresses random bits, and the table."""
        clock, key, table = self.key.clock, self.key, self.table
        where = (clock, *clock.stride(), key.layer, int(key.point), max(key.matrices, 1))
        return *where, table.ints, table.floats, table.candidate_ints, table.candidate_floats

    @property
    def values(self) -> Tensor:
        """Lists of values, or a tensor that is not read."""
        return self.table.floats if self.table.values is None else self.table.values

    @property
    def places(self) -> int:
        """Of a half of a list of values; 0: there are none."""
        return 0 if self.table.values is None else self.table.values.shape[-1]

    def part(self) -> tuple[int, int]:
        """Rows and columns of a block's part: a power of two, 16 or more along where the width has them."""
        wide = min(_power(self.width), 16 if self.x.stride(-1) != 1 else _ELEMENTS // 2)
        return _ELEMENTS // wide, wide


def quantize_long(operand: LongBlocks, levels: Tensor, out: Tensor, kept: KeptScale | None = None) -> SumFactors | None:
    """Decoded values to ``out`` [E, R, K]; ``levels`` float32 [E]: the operands' g, where it is measured.

    -> What is ``kept`` out of them.
    """
    from dse.kernels.device import long_blocks as device

    x, table, q = operand.x, operand.table, operand.table.quantizer
    hows = len(candidates(q))
    best, chosen = chosen_factors(operand, levels)
    correction = correction_code(q)
    if correction is not None:
        _correct(operand, correction, best, chosen)
    across = x.stride(-1) != 1
    high, wide = (64, 32) if across else (16, 128)
    grid_k = -(-x.shape[2] // wide)
    programs = -(-x.shape[1] // high) * grid_k
    device.long_elements_kernel[(len(x) * programs,)](
        *operand.source, out, *out.stride(), *operand.numbers, operand.values, best, best.stride(0), chosen,
        *operand.sizes, grid_k, programs, PT=high, PB=wide, CANDIDATES=hows, RANDOM=table.random, LANE=table.lane,
        WIDE=table.wide, VALUES=operand.places,
        OUTER=isinstance(q.tensor_scale, Outer), CORRECTED=correction is not None, KEPT=KEPT[kept and kept.scale],
        num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return None if kept is None else _kept_factors(operand, best, kept)


def _kept_factors(operand: LongBlocks, factors: Tensor, kept: KeptScale) -> SumFactors:
    """From encode, decode and alpha of each block, float32 [3, E, tiles, blocks]."""
    if kept.scale == "block":
        found = factors[1]
    else:
        found = factors[2][..., :: kept.group // operand.width or operand.blocks]
    if operand.height > 1:
        found = found.repeat_interleave(operand.height, 1)[:, : operand.x.shape[1]]
    return SumFactors(found.mT.contiguous(), kept.group)


def chosen_factors(operand: LongBlocks, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Encode, decode and alpha of each block, float32 [3, E, tiles, blocks], and the candidate it has chosen: int32
    [E, tiles, blocks], not filled where there is one.
    """
    hows, statistics = len(candidates(operand.table.quantizer)), _statistics(operand)
    best = _factors(operand, statistics, levels, 0)
    if hows == 1:
        return best, operand.table.ints
    chosen = torch.zeros(best[0].shape, dtype=torch.int32, device=best.device)
    alphas = best[2].clone()
    for number in range(1, hows):
        other = _factors(operand, statistics, levels, number)
        better = _closer(operand, best, chosen, other, number, alphas)
        chosen = torch.where(better, number, chosen)
        best = torch.where(better, other, best)
    best[2] = alphas
    return best, chosen


def factors_as_chosen(operand: LongBlocks, levels: Tensor, chosen: Tensor) -> Tensor:
    """Encode, decode and alpha of each block, float32 [3, E, tiles, blocks], under the candidates it has chosen."""
    statistics = _statistics(operand)
    found = _factors(operand, statistics, levels, 0)
    for number in range(1, len(candidates(operand.table.quantizer))):
        found = torch.where(chosen == number, _factors(operand, statistics, levels, number), found)
    return found


def _statistics(operand: LongBlocks) -> tuple[Tensor, Tensor, Tensor]:
    """Peaks (bits, int32) and both sums of the statistic's terms, [E, tiles, blocks] each."""
    from dse.kernels.device import long_blocks as device
    from dse.kernels.device import statistics

    x, code = operand.x, statistic_code(operand.table.quantizer)
    tiles, blocks = operand.tiles, operand.blocks
    peaks = torch.zeros(len(x), tiles, blocks, dtype=torch.int32, device=x.device)
    most = 2 * _ELEMENTS
    wide = min(_power(operand.width), 64 if x.stride(-1) != 1 else most)
    high = min(_power(operand.height), most // wide)
    below = min(_power(tiles), most // (wide * high)) if high >= operand.height else 1
    parts_r, parts_k = -(-operand.height // high), -(-operand.width // wide)
    programs = -(-tiles // below) * blocks * parts_r * parts_k
    device.long_peaks_kernel[(len(x) * programs,)](
        *operand.source, peaks, *operand.sizes, parts_r, parts_k, programs, NT=below, PT=high, PB=wide, num_warps=4
    )
    if code.sums == 0:
        zeros = peaks.view(torch.float32)  # not read
        return peaks, zeros, zeros
    high, wide = operand.part()
    parts, rows = -(-operand.width // wide), tiles * operand.height
    programs = -(-x.shape[1] // high) * blocks * parts
    sums = torch.zeros(code.sums, len(x), rows, blocks, parts, device=x.device)
    device.long_terms_kernel[(len(x) * programs,)](
        *operand.source, peaks, operand.table.floats, max(operand.key.matrices, 1), sums, sums.stride(0), rows,
        *operand.sizes, parts, programs, PT=high, PB=wide, TERMS=getattr(statistics, code.terms), SUMS=code.sums,
        num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    one, *two = _by_block(operand, sums)
    return peaks, one, two[0] if two else one


def _factors(operand: LongBlocks, measured: tuple[Tensor, Tensor, Tensor], levels: Tensor, number: int) -> Tensor:
    """Encode, decode and alpha of a candidate, float32 [3, E, tiles, blocks]."""
    from dse.kernels.device import long_blocks as device
    from dse.kernels.device import statistics

    table, q, peaks = operand.table, operand.table.quantizer, measured[0]
    outer = q.tensor_scale if isinstance(q.tensor_scale, Outer) else None
    reference = levels
    if outer is not None:
        reference = outer.reference(peaks.view(torch.float32)[:, :, None, :, None], None).contiguous()
    found = torch.empty(3, *peaks.shape, device=peaks.device)
    programs = -(-operand.tiles * operand.blocks // _BLOCKS)
    device.long_factors_kernel[(len(peaks) * programs,)](
        *measured, *operand.x.shape[1:], *operand.numbers, levels, reference, found, found.stride(0), number,
        *operand.sizes, programs, N=_BLOCKS, VALUE=getattr(statistics, statistic_code(q).value),
        CANDIDATES=len(candidates(q)), CODES=table.codes, SCALE_RANDOM=table.scale_random, LEVELS=table.measured,
        OUTER=outer is not None, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return found


def _closer(
    operand: LongBlocks, best: Tensor, chosen: Tensor, other: Tensor, number: int, alphas: Tensor
) -> Tensor:  # fmt: skip
    """Whether candidate ``number`` has the smaller error, bool [E, tiles, blocks]."""
    from dse.kernels.device import long_blocks as device

    x, table, q = operand.x, operand.table, operand.table.quantizer
    assert q.choice is not None
    high, wide = operand.part()
    parts, rows = -(-operand.width // wide), operand.tiles * operand.height
    programs = -(-x.shape[1] // high) * operand.blocks * parts
    errors = torch.zeros(2, len(x), rows, operand.blocks, parts, dtype=torch.float64, device=x.device)
    lane = table.lane if operand.width % 16 == 0 and wide % 16 == 0 else 0
    device.long_errors_kernel[(len(x) * programs,)](
        *operand.source, *operand.numbers, operand.values, best, best.stride(0), chosen, other, other.stride(0),
        number, alphas, errors, errors.stride(0), rows, *operand.sizes, parts, programs, PT=high, PB=wide,
        CANDIDATES=len(candidates(q)), RANDOM=table.random, LANE=lane, WIDE=table.wide,
        VALUES=operand.places, ERROR=ERRORS[q.choice.error],
        num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    if q.choice.error == "max":
        largest: Tensor = errors.unflatten(2, (-1, operand.height)).amax((3, 5))
        return largest[0].lt(largest[1])
    sums = _by_block(operand, errors)
    if q.choice.error == "mae":
        return sums[0].lt(0)
    gains = table.floats[:, 8].repeat_interleave(max(operand.key.matrices, 1))[:, None, None]
    return ((alphas * gains).double() * sums[0]).lt(2 * sums[1])


def _correct(operand: LongBlocks, correction: CorrectionCode, factors: Tensor, chosen: Tensor) -> None:
    """Puts new scales in the place of those in ``factors``."""
    from dse.kernels.device import long_blocks as device

    x, table = operand.x, operand.table
    high, wide = operand.part()
    parts, rows = -(-operand.width // wide), operand.tiles * operand.height
    programs = -(-x.shape[1] // high) * operand.blocks * parts
    sums = torch.zeros(2, len(x), rows, operand.blocks, parts, dtype=torch.float64, device=x.device)
    device.long_products_kernel[(len(x) * programs,)](
        *operand.source, *operand.numbers, operand.values, factors, factors.stride(0), chosen, sums, sums.stride(0),
        rows, *operand.sizes, parts, programs, PT=high, PB=wide, CANDIDATES=len(candidates(table.quantizer)),
        RANDOM=table.random, LANE=table.lane if operand.width % 16 == 0 and wide % 16 == 0 else 0, WIDE=table.wide,
        VALUES=operand.places, ELEMENTS=correction.elements, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    above, below = _over_groups(_by_block(operand, sums), max(1, correction.group // operand.width))
    programs = -(-operand.tiles * operand.blocks // _BLOCKS)
    device.long_scales_kernel[(len(x) * programs,)](
        above, below, *operand.numbers[:7], table.floats, factors[1], operand.tiles, operand.blocks, programs,
        N=_BLOCKS, BITS=correction.bits, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip


def _over_groups(sums: Tensor, blocks: int) -> Tensor:
    """The sum of ``blocks`` consecutive blocks' sums [S, E, tiles, blocks], for each of them."""
    count = sums.shape[-1]
    if blocks == 1 or count == 1:
        return sums.contiguous()
    groups = torch.nn.functional.pad(sums, (0, -count % blocks)).reshape(-1, blocks, 1)
    totals = fold(groups).view(*sums.shape[:-1], -1)
    return totals.repeat_interleave(blocks, -1)[..., :count].contiguous()


def _by_block(operand: LongBlocks, parts: Tensor) -> Tensor:
    """Sums [S, E, tiles * height, blocks, parts] of rows' parts -> [S, E, tiles, blocks]."""
    if parts.shape[-1] > 1:
        parts = fold(parts.reshape(-1, parts.shape[-1], 1)).view(*parts.shape[:-1], 1)
    shape = (*parts.shape[:2], operand.tiles, operand.blocks)
    return fold(parts.reshape(-1, operand.height, operand.blocks)).view(shape)


def _power(n: int) -> int:
    """The next power of two."""
    return 1 << max(n - 1, 0).bit_length()
