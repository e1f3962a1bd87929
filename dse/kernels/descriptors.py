"""Products through tensor descriptors, by which Hopper and later GPUs copy whole tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dse.kernels.availability import address, interpreted
from dse.kernels.epilogue import Epilogue
from dse.kernels.tilings import Tiling, multiprocessors

_SHARED = 227 << 10
"""Bytes of shared memory that a program can have on Hopper and on Blackwell for servers."""
_GROUP = 8
"""Rows of tiles that are walked together."""
PAIRS = {(1, 1): 1, (3, 1): 3, (1, 3): 3, (3, 3): 6}
"""Products of the parts of two numbers that are not below FP32's precision, by the numbers' parts."""


def fits(x: Tensor) -> bool:
    """Whether x [E, R, K] can have a descriptor: one of the last two axes contiguous, the others in steps of 16 B."""
    return 0 not in x.shape and _strides(x if not _turned(x) else x.mT) is not None and address(x) % 16 == 0


def multiplies(x: Tensor, y: Tensor) -> bool:
    """Whether ``launch`` can multiply x [E, M, K] and y [E, N, K], FP32 operands after ``split``."""
    return 0 not in (*x.shape, *y.shape) and all(t.dtype == torch.float32 or fits(t) for t in (x, y))


def launch(x: Tensor, y: Tensor, out: Tensor, epilogue: Epilogue, tiling: Tiling) -> None:
    """The sums of x [E, M, K] and y [E, N, K], finished, into ``out`` [parts * E, M, N], contiguous.

    The operands have to be such that they ``fits``. Each may also be [3 * E, ., K], from ``split``, or both float32:
    then each program splits what it reads, in the same way.
    """
    from dse.kernels.device import descriptor_matmul as device

    (_, rows, depth), columns, tile = x.shape, y.shape[1], tiling.tile
    share, parts = tiling.share(depth)
    members = len(out) // parts
    parts_x, parts_y = len(x) // members, len(y) // members
    pairs = PAIRS[parts_x, parts_y]
    tiles = -(-rows // tile.m), -(-columns // tile.n)
    way = 1 if fits(out) else 0
    if way and tiling.programs and _bytes(tiling, out.dtype) > _SHARED // tiling.programs - 1024:
        way = 2
    jobs, constant = tiles[0] * tiles[1] * parts * members, interpreted()
    more = {"STEPS": pairs * (share // tile.k) if constant else 0}
    if tiling.programs and way:
        kernel, more["JOBS"] = device.tiles_kernel, jobs if constant else 0
        grid: tuple[int, ...] = (min(jobs, tiling.programs * multiprocessors(x.device)),)
    else:
        kernel, grid = device.tile_kernel, (tiles[0] * tiles[1], parts, members)
    kernel[grid](
        _descriptor(x, tile.m, tile.k), _descriptor(y, tile.n, tile.k),
        _descriptor(out, tile.m, tile.n // way) if way else out, *epilogue.arguments, rows, columns, depth, share,
        *tiles, members, parts, BM=tile.m, BN=tile.n, BK=tile.k, A_TURNED=_turned(x), B_TURNED=_turned(y),
        GROUP=_GROUP, A_PARTS=parts_x, B_PARTS=parts_y, PRECISION="bf16x6" if x.dtype == torch.float32 else "tf32",
        **epilogue.constants, OUT=way, INTERPRET=constant, **more,
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
    )  # fmt: skip


def _bytes(tiling: Tiling, dtype: torch.dtype) -> int:
    """Of shared memory in a program that reads ahead while it writes its tile."""
    tile = tiling.tile
    return tile.stages * (tile.m + tile.n) * tile.k * 2 + tile.m * tile.n * dtype.itemsize + 64


def _turned(x: Tensor) -> bool:
    return x.stride(-1) != 1 and x.stride(-2) == 1


def _strides(x: Tensor) -> list[int] | None:
    """Of x [E, R, K] as a descriptor takes them; None where it does not.

    An axis of one element may have any stride, and counts as if others of its kind lay behind it, so that an operand
    of one row, or of one member, goes the way of several.
    """
    if x.stride(-1) != 1 and x.shape[-1] > 1:
        return None
    strides, extent = [1], x.shape[-1]
    for size, stride in zip(x.shape[-2::-1], x.stride()[-2::-1], strict=True):
        step = extent if size == 1 and not _aligned(x, stride) else stride
        if not _aligned(x, step):
            return None
        strides.insert(0, step)
        extent = step * size
    return strides


def _aligned(x: Tensor, stride: int) -> bool:
    return stride > 0 and stride * x.element_size() % 16 == 0


def _descriptor(x: Tensor, rows: int, columns: int) -> Any:
    from triton.tools.tensor_descriptor import TensorDescriptor

    block = [1, rows, columns]
    if _turned(x):
        x, block = x.mT, [1, columns, rows]
    return TensorDescriptor(x, list(x.shape), _strides(x) or [], block)
