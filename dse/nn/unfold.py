"""A 2-D convolution as a GEMM: Y = X W^T with a row of X for each output pixel, and its patch along the columns.

X [B * L, C * kh * kw], L = output pixels; W [O, C * kh * kw] is the kernel flattened; the contraction axis runs over
channel, row, column, as ``weight.flatten(1)`` does, and blocks lie along it (arXiv 2509.17791 quantizes linears only).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, pad

IntPair = tuple[int, int]


class Window(NamedTuple):
    """How a kernel moves over an image; each pair is (rows, columns). ``padding``: left, right, top, bottom."""

    kernel: IntPair
    stride: IntPair
    dilation: IntPair
    padding: tuple[int, int, int, int]

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Window:
        """That of a convolution without groups, padded with zeros."""
        spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if isinstance(conv.padding, str):
            (top, left) = (0, 0) if conv.padding == "valid" else (s // 2 for s in spans)
            bottom, right = (0, 0) if conv.padding == "valid" else (spans[0] - top, spans[1] - left)
        else:
            (top, left) = (bottom, right) = conv.padding
        kernel, stride, dilation = ((p[0], p[1]) for p in (conv.kernel_size, conv.stride, conv.dilation))
        return cls(kernel, stride, dilation, (left, right, top, bottom))

    def padded(self, height: int, width: int) -> IntPair:
        """Rows and columns of the padded image."""
        left, right, top, bottom = self.padding
        return height + top + bottom, width + left + right

    def places(self, height: int, width: int) -> IntPair:
        """Rows and columns of the output."""
        sizes = zip(self.padded(height, width), self.kernel, self.stride, self.dilation, strict=True)
        rows, columns = (max(0, (n - d * (k - 1) - 1) // s + 1) for n, k, s, d in sizes)
        return rows, columns


def patches(x: Tensor, window: Window) -> Tensor:
    """x [B, C, H, W] -> [B, L, C * kh * kw]; under vmap the members are folded into the batch.

    Raises RuntimeError for images smaller than the kernel.
    """
    if 0 in window.places(*x.shape[-2:]):
        raise RuntimeError(f"a convolution of {window.kernel} got images of {tuple(x.shape[-2:])}, which are smaller")
    rows: Tensor = _Patches.apply(x, window)  # type: ignore[no-untyped-call]
    return rows


def images(y: Tensor, places: IntPair) -> Tensor:
    """Output rows y [B, L, O] -> [B, O, rows, columns]."""
    whole: Tensor = y.mT.unflatten(-1, places)
    return whole


def memory_format(x: Tensor, weight: Tensor) -> torch.memory_format:
    """Of the output of a convolution of x [B, C, H, W], as torch has it: channels last where x or the kernel are."""
    return torch.channels_last if _channels_last(x) or _channels_last(weight) else torch.contiguous_format


def _channels_last(x: Tensor) -> bool:
    """Whether torch takes [B, C, H, W] for channels last by its strides; with one pixel or one channel both fit."""
    least = 0
    for axis in (1, 3, 2, 0):
        size, stride = x.shape[axis], x.stride(axis)
        if size == 0 or stride < max(least, axis == 1) or (axis == 0 and least == x.stride(1)):
            return False
        least = stride * max(size, 1)
    return True


class _Patches(torch.autograd.Function):
    """A copy of every patch; its transpose adds up, for each pixel, the gradients of the patches that hold it."""

    @staticmethod
    def forward(x: Tensor, window: Window) -> Tensor:
        (rows, columns), (dy, dx), (sy, sx) = window.places(*x.shape[-2:]), window.dilation, window.stride
        x = pad(x, window.padding)
        b, c, h, w = x.stride()
        size = (x.shape[0], rows, columns, x.shape[1], *window.kernel)
        views = x.as_strided(size, (b, h * sy, w * sx, c, h * dy, w * dx))
        return views.reshape(x.shape[0], rows * columns, x.shape[1] * window.kernel[0] * window.kernel[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Window], output: Tensor) -> None:
        x, ctx.window = inputs
        ctx.size = x.shape[-2:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        dx: Tensor = _Pixels.apply(grads[0], ctx.window, ctx.size)  # type: ignore[no-untyped-call]
        return dx, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, window: Window) -> tuple[Tensor, int | None]:
        if in_dims[0] is None:
            return patches(x, window), None
        x = x.movedim(in_dims[0], 0)
        return patches(x.flatten(0, 1), window).unflatten(0, x.shape[:2]), 0


class _Pixels(torch.autograd.Function):
    """The transpose of ``_Patches``: g [B, L, C * kh * kw] -> [B, C, H, W]."""

    @staticmethod
    def forward(g: Tensor, window: Window, size: IntPair) -> Tensor:
        (left, _, top, _), (height, width) = window.padding, size
        full = window.padded(height, width)
        dx = fold(g.mT, full, window.kernel, window.dilation, stride=window.stride)
        return dx[..., top : top + height, left : left + width]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.window = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return patches(grads[0], ctx.window), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], g: Tensor, window: Window, size: IntPair
    ) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        g = g.movedim(in_dims[0], 0)
        dx: Tensor = _Pixels.apply(g.flatten(0, 1), window, size)  # type: ignore[no-untyped-call]
        return dx.unflatten(0, g.shape[:2]), 0


__all__ = ["Window", "images", "memory_format", "patches"]
