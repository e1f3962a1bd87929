"""Products of a library on the CPU, called for a member of a pack exactly as they are called for it alone.

A library may add up in an order that depends on an operand's address (MKL's generic kernels, which serve processors of
other makers than Intel: modulo 16 bytes), on its strides and on how many matrices it is given. So every member is
multiplied by itself, with operands of equal shape, strides and address modulo ``ALIGNMENT``, into memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes: a cache line, a vector of AVX-512, and what torch's own allocator gives."""
_TILED = 60 * 60
"""Elements from which torch copies a transposed matrix in tiles."""


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [M, K] times b [K, N], or stacks of them [B, M, K] and [B, K, N]: one call, the same wherever they lie.

    On any other device than the CPU it is torch's product of the operands as they are.
    """
    multiply = torch.mm if a.dim() == 2 else torch.bmm
    return multiply(aligned(a), aligned(b))


def products(a: Tensor, b: Tensor) -> Tensor:
    """a [E, M, K] times b [E, K, N], or a [E, B, M, K] times b [E, B, K, N], one call for each of E members."""
    if not len(a):
        return a.new_empty(*a.shape[:-1], b.shape[-1])
    if len(a) == 1:
        return product(a[0], b[0]).unsqueeze(0)
    return torch.stack([product(x, y) for x, y in zip(a, b, strict=True)])


def aligned(x: Tensor) -> Tensor:
    """x [..., R, C] with the strides of a contiguous stack of matrices, or of transposed ones where x is so, and its
    first element at a multiple of ``ALIGNMENT`` bytes; x itself where it lies so, or has no address (under a transform
    of ``torch.func``, while compiling, on another device).
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or (start := _address(x)) is None:
        return x
    turned = not x.is_contiguous() and x.mT.is_contiguous()
    y = x.mT if turned else x
    if start % ALIGNMENT or not y.is_contiguous():
        y = y.clone(memory_format=torch.contiguous_format)
    elif y.stride() != (strides := _strides(y.shape)):  # an axis of one element may have any
        y = y.as_strided(y.shape, strides)
    return y.mT if turned else y


def contiguous(x: Tensor) -> Tensor:
    """x [..., R, C] laid out row by row: x itself, or a copy.

    Torch copies a transposed matrix in tiles, which is four times as fast, only where it is alone.
    """
    rows, columns = x.shape[-2:]
    turned = x.dim() > 2 and x.stride()[-2:] == (1, rows) and rows * columns >= _TILED
    if x.device.type != "cpu" or not turned or (x.requires_grad and torch.is_grad_enabled()):
        return x.contiguous()
    if torch.compiler.is_compiling() or _address(x) is None:
        return x.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype)
    for own, one in zip(out.flatten(0, -3), x.flatten(0, -3), strict=True):
        own.copy_(one)
    return out


def apart(x: Tensor) -> Iterator[Tensor]:
    """The members of x [E, ...] one by one, each contiguous in memory of its own, as it is where there is one."""
    return (one.clone(memory_format=torch.contiguous_format) for one in x)


def _address(x: Tensor) -> int | None:
    """Where the first element lies; None where nothing does."""
    try:
        return x.data_ptr()
    except RuntimeError:
        return None


def _strides(shape: torch.Size) -> tuple[int, ...]:
    """Those of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


__all__ = ["ALIGNMENT", "aligned", "apart", "contiguous", "product", "products"]
