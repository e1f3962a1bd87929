"""Launching the general kernels of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dse.fused.block_table import BlockTable
from dse.fused.device_code import ERRORS, candidates, correction_code, statistic_code
from dse.fused.launch import quantize as core_quantize
from dse.fused.long_launch import LongBlocks, quantize_long
from dse.fused.support import LARGEST_WHOLE
from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.techniques.tensor_scales import Outer

_ELEMENTS = 2048
"""Of a program where blocks are small; larger ones have a program each."""
_WIDTH = 128
"""Elements of a program side by side in memory, where there are as many."""


@dataclass(frozen=True)
class BlockTile:
    """A program's blocks: ``rows`` x ``columns`` blocks of ``height`` x ``width`` elements, powers of two."""

    rows: int
    height: int
    columns: int
    width: int
    group: int

    @property
    def elements(self) -> int:
        return self.rows * self.height * self.columns * self.width


@dataclass(frozen=True)
class Joined:
    """Blocks side by side that depend on each other: under one ``outer`` scale, and ``corrected`` together.

    ``apart``: no program holds both, since padding one to a power of two breaks up the other.
    """

    outer: int
    corrected: int
    apart: bool

    @classmethod
    def of(cls, q: BlockQuantizer, width: int, blocks: int) -> Joined:
        """Of an operand whose rows are ``blocks`` of ``width`` elements."""
        outer = (q.tensor_scale.blocks or blocks) if isinstance(q.tensor_scale, Outer) else 1
        correction = correction_code(q)
        corrected = 1 if correction is None else max(1, correction.group // width)
        apart = 1 != outer != corrected != 1 and any(n & n - 1 for n in (outer, corrected))
        return cls(min(outer, blocks), min(corrected, blocks), apart)

    @property
    def blocks(self) -> int:
        return max(self.outer, self.corrected)


def quantize_blocks(
    x: Tensor, table: BlockTable, key: Key, dtype: torch.dtype, peaks: Tensor | None = None
) -> Quantized:  # fmt: skip
    """Every member's operand under its own quantizer, after its rotation; as ``dse.fused.quantize`` says.

    ``peaks``: what ``operand_peaks`` has found already, or None.
    """
    if table.rotation is not None:
        x = core_quantize(x, table.rotation, key, torch.float32).values
    across = x.stride(-1) != 1 and x.stride(-2) == 1
    operands, rows, columns = x.shape
    out = torch.empty((operands, columns, rows) if across else x.shape, dtype=dtype, device=x.device)
    out = out.mT if across else out
    if x.numel() == 0:
        return Quantized(out)
    from dse.kernels.device import statistics
    from dse.kernels.device.quantize_blocks import blocks_kernel

    code, correction = statistic_code(table.quantizer), correction_code(table.quantizer)
    q, matrices, clock = table.quantizer, max(key.matrices, 1), key.clock
    height, width = q.block_shape(rows, columns)
    tiles, blocks = -(-rows // height), -(-columns // width)
    kept = table.kept if dtype.itemsize == 2 else None
    joined = Joined.of(q, width, blocks)
    levels, alpha = operand_levels(x, table, key, peaks) if table.measured else (table.floats, table.alpha)
    if alpha is not None and alpha.shape[0] != operands:
        alpha = alpha.repeat_interleave(matrices, 0)
    if kept or joined.apart or _power(height) * _power(width) * _power(joined.blocks) > LARGEST_WHOLE:
        return Quantized(out, alpha, quantize_long(LongBlocks(x, table, key, height, width), levels, out, kept))
    tile = block_tile(height, width, joined.blocks, (tiles, blocks), across)
    grid_r = -(-tiles // tile.rows)
    groups = -(-blocks // joined.blocks)
    grid_k = -(-groups // (tile.columns // tile.group))
    blocks_kernel[(operands * grid_r * grid_k,)](
        x, *x.stride(), rows, columns, out, *out.stride(), clock, *clock.stride(), key.layer, int(key.point), matrices,
        table.ints, table.floats, table.candidate_ints, table.candidate_floats,
        table.floats if table.values is None else table.values, levels,
        tiles, blocks, grid_k, grid_r * grid_k, t=height, b=width, group=joined.blocks,
        NR=tile.rows, T=tile.height, NB=tile.columns, B=tile.width, GROUP=tile.group,
        OUTER=_power(joined.outer) if isinstance(q.tensor_scale, Outer) else 0, LEVELS=table.measured,
        TERMS=getattr(statistics, code.terms),
        VALUE=getattr(statistics, code.value), SUMS=code.sums, CANDIDATES=len(candidates(q)),
        ERROR=0 if q.choice is None else ERRORS[q.choice.error], CODES=table.codes,
        RANDOM=table.random, LANE=table.lane if width % 16 == 0 else 0, SCALE_RANDOM=table.scale_random,
        WIDE=table.wide, VALUES=0 if table.values is None else table.values.shape[-1],
        CORRECTION=None if correction is None else (_power(joined.corrected), *correction[1:]),
        MICRO=tuple(min(size, tile.width) for size in q.micro_exponents) or None,
        num_warps=8 if tile.elements > 2 * _ELEMENTS else 4, enable_fp_fusion=False,
    )  # fmt: skip
    return Quantized(out, alpha)


def block_tile(height: int, width: int, group: int, count: tuple[int, int], across: bool) -> BlockTile:
    """The tile for blocks of height x width, ``group`` of them under one outer scale, ``count`` down and along."""
    t, b, g = _power(height), _power(width), _power(group)
    if across:
        rows = max(1, min(_WIDTH // 2 // t, _ELEMENTS // (t * b * g), _power(count[0])))
        columns = max(1, min(_ELEMENTS // (rows * t * b * g), _power(-(-count[1] // group))))
    else:
        columns = max(1, min(_WIDTH // (b * g), _ELEMENTS // (t * b * g), _power(-(-count[1] // group))))
        rows = max(1, min(_ELEMENTS // (columns * t * b * g), _power(count[0])))
    return BlockTile(rows, t, columns * g, b, g)


def both_blocks(
    x: Tensor, tables: tuple[BlockTable, BlockTable], keys: tuple[Key, Key], dtype: torch.dtype
) -> tuple[Quantized, Quantized]:
    """``x`` [E, R, C] as an operand and transposed as another; tensor scales that both measure are measured once."""
    one, two = tables
    same = one.measured and one.levels == two.levels and 2 not in one.levels and x.numel() > 0
    peaks = operand_peaks(x, one, keys[0]) if same and one.rotation is None and two.rotation is None else None
    return quantize_blocks(x, one, keys[0], dtype, peaks), quantize_blocks(x.mT, two, keys[1], dtype, peaks)


def operand_levels(x: Tensor, table: BlockTable, key: Key, peaks: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """g of every operand, and its factor for the epilogue: [E], [E, 1, 1]; ``peaks`` of ``operand_peaks``."""
    from dse.kernels.device.quantize_blocks import levels_kernel

    operands, clock, held = len(x), key.clock, table.holds and key.memory is not None
    memory = table.floats if key.memory is None else key.memory.select(-1, key.point)
    levels, alphas = torch.empty(operands, device=x.device), torch.empty(operands, 1, 1, device=x.device)
    levels_kernel[(operands,)](
        operand_peaks(x, table, key) if peaks is None else peaks, clock, *clock.stride(), max(key.matrices, 1),
        table.ints, table.floats, table.candidate_floats, memory, memory.stride(0), levels, alphas,
        CANDIDATES=len(candidates(table.quantizer)), SAMPLING=held and key.sampling, HELD=held, num_warps=1,
        enable_fp_fusion=False,
    )  # fmt: skip
    return levels, alphas


def operand_peaks(x: Tensor, table: BlockTable, key: Key) -> Tensor:
    """The bits of the largest magnitude of each operand whose tensor scale is due, int32 [E]."""
    from dse.kernels.device.quantize_blocks import peaks_kernel

    clock, held = key.clock, table.holds and key.memory is not None
    memory = table.floats if key.memory is None else key.memory.select(-1, key.point)
    peaks = torch.zeros(len(x), dtype=torch.int32, device=x.device)
    y = x.mT if x.stride(-1) != 1 and x.stride(-2) == 1 else x
    high, wide = min(16, _power(y.shape[1])), min(512, _power(y.shape[2]))
    grid_k = -(-y.shape[2] // wide)
    programs = -(-y.shape[1] // high) * grid_k
    peaks_kernel[(len(x) * programs,)](
        y, *y.stride(), *y.shape[1:], clock, *clock.stride(), max(key.matrices, 1), table.ints, memory,
        memory.stride(0), peaks, grid_k, programs, BR=high, BK=wide, SAMPLING=held and key.sampling, HELD=held,
        num_warps=4,
    )  # fmt: skip
    return peaks


def _power(n: int) -> int:
    """The next power of two."""
    return 1 << max(n - 1, 0).bit_length()
