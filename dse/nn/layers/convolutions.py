"""Quantized convolutions besides ``QuantizedConv2d``: in groups, in 1 or 3 dimensions, padded, transposed.

A convolution in G groups is G linears over the patches of their own channels. A transposed one multiplies each input
pixel, a row of X [B * L, C], by its group's kernel as W [O * k, C], and adds the columns of Y up where they overlap.
Blocks lie along the contraction axis and never reach over groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, pad

from dse.nn.layers.parts import Parted
from dse.nn.quantized_layer import check_input
from dse.nn.uncompiled import uncompiled
from dse.nn.unfold import Window, memory_format, patches
from dse.numerics.autocast import output_dtype, without_autocast


class _Convolution(Parted):
    """Part i is group i, W [O / G, C / G * k]."""

    def sliced(self) -> list[tuple[str, Any]]:
        n = self.out_channels // self.groups
        return [("weight", slice(g * n, (g + 1) * n)) for g in range(self.groups)]

    @uncompiled
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the plain layer's keyword
        """[B, C, *sizes] or [C, *sizes] -> [(B,) O, *sizes']."""
        x = input
        axes, groups, weight = len(self.kernel_size), self.groups, self.weight
        check_input(self, x, -1 - axes, self.in_channels, (axes + 1, axes + 2))
        batch = x if x.dim() == axes + 2 else x.unsqueeze(0)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        batch = pad(batch, self._reversed_padding_repeated_twice, mode)
        biases = [None] * groups if self.bias is None else self.bias.chunk(groups)
        rows = [_rows(part, self) for part in batch.chunk(groups, 1)]
        operands = zip(self.parts, rows, weight.chunk(groups), biases, strict=True)
        outputs = torch.cat([part(*each) for part, *each in operands], -1)
        y: Tensor = outputs.mT.unflatten(-1, _places(batch, self)).clone(memory_format=_format(batch, weight))
        return y if x.dim() == axes + 2 else y.squeeze(0)


class _TransposedConvolution(Parted):
    """Part i is group i, W [O / G * k, C / G]."""

    def sliced(self) -> list[tuple[str, Any]]:
        k = self.in_channels // self.groups
        return [("weight", slice(g * k, (g + 1) * k)) for g in range(self.groups)]

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.flatten(1).mT

    def as_weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        return matrix.mT.reshape(shape)

    @uncompiled
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - the plain keyword
        """[B, C, *sizes] or [C, *sizes] -> [(B,) O, *sizes']; ``output_size`` as in the plain layer."""
        x = input
        if x.is_meta:
            return super().forward(x, output_size)  # type: ignore[no-any-return]
        axes, groups, weight = len(self.kernel_size), self.groups, self.weight
        check_input(self, x, -1 - axes, self.in_channels, (axes + 1, axes + 2))
        extra = self._output_padding(x, output_size, self.stride, self.padding, self.kernel_size, axes, self.dilation)
        batch = x if x.dim() == axes + 2 else x.unsqueeze(0)
        wide = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
        operands = zip(self.parts, batch.to(wide).chunk(groups, 1), weight.to(wide).chunk(groups), strict=True)
        with without_autocast(x):  # what overlaps is added up before it is rounded
            columns = [part(pixels.flatten(2).mT, w).mT for part, pixels, w in operands]
            y = torch.cat([_added(c, batch, self) for c in columns], 1)
        cut = [n for p, e in zip(self.padding[::-1], extra[::-1], strict=True) for n in (-p, e - p)]
        y = pad(y, cut)
        if self.bias is not None:
            y = y + self.bias.view(-1, *[1] * axes)
        y = y.to(output_dtype(x), memory_format=_format(batch, weight))
        return y if x.dim() == axes + 2 else y.squeeze(0)


class QuantizedConv1d(_Convolution, nn.Conv1d):
    """Takes the place of ``nn.Conv1d``, in any groups and padding."""


class QuantizedGroupedConv2d(_Convolution, nn.Conv2d):
    """Takes the place of an ``nn.Conv2d`` in groups, or padded with anything but zeros."""


class QuantizedConv3d(_Convolution, nn.Conv3d):
    """Takes the place of ``nn.Conv3d``, in any groups and padding."""


class QuantizedConvTranspose1d(_TransposedConvolution, nn.ConvTranspose1d):
    """Takes the place of ``nn.ConvTranspose1d``."""


class QuantizedConvTranspose2d(_TransposedConvolution, nn.ConvTranspose2d):
    """Takes the place of ``nn.ConvTranspose2d``."""


def _format(x: Tensor, weight: Tensor) -> torch.memory_format:
    """Of the output, as torch has it."""
    return memory_format(x, weight) if x.dim() == 4 else torch.contiguous_format


def _pair(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    """Of one or two numbers, two: an image of one row."""
    return (missing, values[0]) if len(values) == 1 else (values[0], values[1])


def _places(x: Tensor, conv: Any) -> list[int]:
    """The sizes of a convolution's output, from its padded input."""
    axes = zip(x.shape[2:], conv.kernel_size, conv.dilation, conv.stride, strict=True)
    return [(n - d * (k - 1) - 1) // s + 1 for n, k, d, s in axes]


def _rows(x: Tensor, conv: Any) -> Tensor:
    """The patches of a padded input x [B, C, *sizes] -> [B, L, C * k]."""
    if len(conv.kernel_size) == 3:
        x = x.contiguous()
        (b, c, *strides), places = x.stride(), _places(x, conv)
        steps = [n * s for n, s in zip(strides, conv.stride, strict=True)]
        inner = [n * d for n, d in zip(strides, conv.dilation, strict=True)]
        views = x.as_strided((len(x), *places, x.shape[1], *conv.kernel_size), (b, *steps, c, *inner))
        return views.reshape(len(x), views.shape[1:4].numel(), -1)
    image = x.unsqueeze(2) if len(conv.kernel_size) == 1 else x
    window = Window(_pair(conv.kernel_size, 1), _pair(conv.stride, 1), _pair(conv.dilation, 1), (0, 0, 0, 0))
    return patches(image, window)


def _added(columns: Tensor, x: Tensor, conv: Any) -> Tensor:
    """Columns [B, O * k, L] added up where they overlap -> [B, O, *sizes], before anything is cut off."""
    kernel, stride, dilation = _pair(conv.kernel_size, 1), _pair(conv.stride, 1), _pair(conv.dilation, 1)
    sizes = _pair(tuple(x.shape[2:]), 1)
    axes = zip(sizes, kernel, stride, dilation, strict=True)
    full = tuple((n - 1) * s + d * (k - 1) + 1 for n, k, s, d in axes)
    y = fold(columns, full, kernel, dilation, stride=stride)
    return y.squeeze(2) if len(conv.kernel_size) == 1 else y


__all__ = [
    "QuantizedConv1d",
    "QuantizedConv3d",
    "QuantizedConvTranspose1d",
    "QuantizedConvTranspose2d",
    "QuantizedGroupedConv2d",
]
