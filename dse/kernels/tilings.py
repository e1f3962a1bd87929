"""How a product is cut into tiles: by one member's own shape and the kind of GPU, never by the number of members."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import torch

from dse.kernels.availability import gpu_of

_LONG = 1024
"""Elements of the contraction axis that one program sums where there are too few tiles otherwise."""


class MatmulTile(NamedTuple):
    """Rows, columns and depth of a program's step; warps; stages of its pipeline."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


class Tiling(NamedTuple):
    """A tile; ``parts`` of the contraction axis, summed by themselves; and who computes the tiles.

    ``programs``: 0, one for each tile, or so many on each multiprocessor, which take tile after tile. ``inside``: FP32
    operands are split into BF16 parts by the programs that multiply them, not before.
    """

    tile: MatmulTile
    parts: int = 1
    programs: int = 0
    inside: bool = False

    def share(self, depth: int) -> tuple[int, int]:
        """Elements of the contraction axis in a part, a multiple of the tile's depth; and the number of parts."""
        share = -(-depth // self.parts)
        share = -(-share // self.tile.k) * self.tile.k
        return share, max(1, -(-depth // share)) if share else 1


def has_descriptors(device: torch.device) -> bool:
    """Whether a GPU copies tiles by tensor descriptors and has memory for several: Hopper, Blackwell for servers."""
    gpu = gpu_of(device)
    return gpu is not None and gpu.capability[0] in (9, 10)


def multiprocessors(device: torch.device) -> int:
    """Of a GPU; 1 in Triton's interpreter."""
    gpu = gpu_of(device)
    return 1 if gpu is None else gpu.multiprocessors


def narrow(rows: int, columns: int, depth: int) -> Tiling:
    """BF16 operands by pointers."""
    m, n = 128 if rows > 64 else 64, 128 if columns > 64 else 64
    warps = 8 if m * n == 128 * 128 else 4
    if -(-rows // m) * -(-columns // n) < 8 and depth >= 2 * _LONG:
        return Tiling(MatmulTile(m, n, 32, warps, 4), depth // _LONG)
    return Tiling(MatmulTile(m, n, 64 if depth > 32 else 32, warps, 3))


def wide(rows: int, columns: int, depth: int) -> Tiling:
    """FP32 operands, which the tensor cores do not take."""
    m, n = 64 if rows > 32 else 32, 64 if columns > 32 else 32
    few = -(-rows // m) * -(-columns // n) < 8
    return Tiling(MatmulTile(m, n, 16, 4, 3), depth // _LONG if few and depth >= 2 * _LONG else 1)


_MANY = 2048
"""Rows of a result from which programs take tile after tile; and elements of the contraction axis of which a part is
worth a pass over its sums."""


def described(rows: int, columns: int, depth: int, slots: int, dtype: torch.dtype) -> Tiling:
    """BF16 operands by tensor descriptors on a GPU of ``slots`` multiprocessors, a result in ``dtype``.

    Measured on an H200 by tests/gpu/test_products_on_cuda.py.
    """
    square = MatmulTile(64 if rows <= 64 else 128, 64 if columns <= 64 else 128, 64, 4, 3)
    tiles = -(-rows // square.m) * -(-columns // square.n)
    if (parts := _parts(rows, columns, depth, tiles, slots)) > 1:
        return Tiling(square, parts)
    if rows < _MANY or columns <= 64 or columns * dtype.itemsize % 16:  # the last are stored by pointers
        return Tiling(MatmulTile(64, 128, 64, 4, 4) if tiles == 1 and square.m + square.n == 256 else square)
    room = dtype == torch.bfloat16
    if columns > 128 and -(-columns // 256) * 2 == -(-columns // 128):
        return Tiling(MatmulTile(128, 256, 64, 8, 4 if room else 3), 1, 1)
    if depth >= 1024:
        return Tiling(square)
    return Tiling(MatmulTile(256, 128, 64, 8, 4 if room and columns > 512 else 3), 1, 1)


def in_groups(rows: int, columns: int, depth: int, group: int, slots: int) -> Tiling:
    """BF16 operands whose factors change with every ``group`` elements of the contraction axis.

    A program has two sums of each element of its tile: of all groups so far, and of a step within one.
    """
    m, n = 64 if rows <= 64 else 128, 64 if columns <= 64 else 128
    tiles = -(-rows // m) * -(-columns // n)
    tile = MatmulTile(m, n, gcd(group, 64), 8 if m + n == 256 else 4, 3)
    return Tiling(tile, _parts(rows, columns, depth, tiles, slots))


def _parts(rows: int, columns: int, depth: int, tiles: int, slots: int) -> int:
    """The number of parts that occupies most of the GPU; their sums are at most a quarter of the operands' bytes."""
    most = min(depth * (rows + columns) // (16 * rows * columns), depth // _MANY, slots)
    return max(range(1, most + 1), key=lambda p: tiles * p / (-(-tiles * p // slots) * slots), default=1)
