"""Operands that find faults in block quantizers, and torchao's quantizers as plain functions."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from dse.numerics.formats import ELEMENTS, Format

KINDS = ("random", "bf16", "tiny", "spread", "edges", "ties", "subnormal", "zeros", "special")
SEED = 20261122


def operand(kind: str, fmt: Format, rows: int = 128, columns: int = 512) -> Tensor:
    """float32 [rows, columns] (edges: [n, 32]); the shared scale of a block of 32 is what varies.

    random: N(0, 1); bf16: the same rounded to BF16; tiny: times 1e-5; spread: blocks of very different size; edges:
    amax within three float32 steps of every power of two and of max * 2^k, and of where 'even' changes; ties: every
    element a midpoint of the grid; subnormal: amax from 2^-118 to below 2^-149; zeros: 2 % non-zeros; special: NaN and
    infinities.
    """
    g = torch.Generator().manual_seed(SEED)
    x = torch.randn(rows, columns, generator=g)
    blocks = rows, columns // 32, 1

    def spread(factor: Tensor) -> Tensor:
        return factor.expand(-1, -1, 32).reshape(rows, columns)

    if kind == "bf16":
        return x.bfloat16().float()
    if kind == "tiny":
        return x * 1e-5
    if kind == "spread":
        return x * spread(torch.exp(6 * torch.randn(blocks, generator=g)))
    if kind == "subnormal":
        return x * spread(2.0 ** -torch.randint(118, 150, blocks, generator=g).float())
    if kind == "zeros":
        return x * (torch.rand(rows, columns, generator=g) < 0.02)
    if kind == "special":
        bad = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38])[torch.randint(4, (rows, columns), generator=g)]
        return torch.where(torch.rand(rows, columns, generator=g) < 0.01, bad, x)
    sign = torch.where(torch.rand(rows, columns, generator=g) < 0.5, -1.0, 1.0)
    if kind == "ties":
        grid = fmt.grid.float()
        middle = (grid[1:] + grid[:-1]) / 2
        x = middle[torch.randint(len(middle), (rows, columns), generator=g)] * sign
        x[:, ::32] = fmt.max
        return x * spread(2.0 ** torch.randint(-60, 60, blocks, generator=g).float())
    if kind == "edges":
        tops = torch.tensor([1.0, fmt.max, 1.5, 1.75, 1.875, 2 - 2.0 ** -(fmt.man + 1)])
        top = (tops[:, None] * 2.0 ** torch.arange(-90, 90, 3).float()).flatten()
        near, low, high = [top], top, top
        for _ in range(3):
            low, high = torch.nextafter(low, torch.zeros(())), torch.nextafter(high, torch.tensor(torch.inf))
            near += [low, high]
        top = torch.cat(near)
        x = (2 * torch.rand(len(top), 32, generator=g) - 1) * top[:, None]
        x[:, 5] = top * torch.where(torch.arange(len(top)) % 2 == 0, 1.0, -1.0)
        return x
    return x


@cache
def torchao(module: str) -> Any:
    """A module of torchao's mx_formats."""
    return pytest.importorskip(f"torchao.prototype.mx_formats.{module}", exc_type=ImportError)


def torchao_mx(x: Tensor, element: str, mode: str) -> tuple[Tensor, Tensor]:
    """torchao's MX cast, decoded: values like ``x`` and the biased exponent of each block of 32, int64 [..., K/32].

    ``x`` may be float32 or bfloat16; ``mode`` is a ScaleCalculationMode.
    """
    mx = torchao("mx_tensor")
    dtypes = {"e2m1": torch.float4_e2m1fn_x2, "e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
    dtype = dtypes.get(element, f"fp6_{element}")
    found = mx.MXTensor.to_mx(x.contiguous(), dtype, 32, mx.ScaleCalculationMode[mode])
    return found.dequantize(torch.float32), found.scale.view(torch.uint8).long()


def torchao_nvfp4(x: Tensor, two_level: bool = True) -> tuple[Tensor, Tensor]:
    """torchao's NVFP4 cast: codes [R, K/16, 16] and E4M3 block scales [R, K/16, 1], float32."""
    nv, kernels = torchao("nvfp4_tensor"), torchao("kernels")
    scales, packed = nv.nvfp4_quantize(x, 16, nv.per_tensor_amax_to_scale(x.abs().max()) if two_level else None)
    codes = kernels.f4_unpacked_to_f32(kernels.unpack_uint4(packed))
    return codes.view(len(x), -1, 16), scales.float().view(len(x), -1, 1)


MX_ELEMENTS = ("e2m1", "e2m3", "e3m2", "e4m3", "e5m2")
assert all(name in ELEMENTS for name in MX_ELEMENTS)
