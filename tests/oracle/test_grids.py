"""Micro-exponents and grids chosen by block against independent NumPy versions: HiF4, MixFP4, RaZeR, macro-blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1
from dse.recipes import RECIPES
from tests.oracle.operands import operand

ml_dtypes = pytest.importorskip("ml_dtypes")
f32 = np.float32
F32 = npt.NDArray[np.float32]
KINDS = ("random", "bf16", "spread", "zeros")
E6M2 = np.array([(1 + m / 4) * 2.0**e for e in range(-48, 16) for m in range(4)][:-1])


def nearest(u: Any, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The nearer value of a grid, by distance; of two at the same distance the one at an even place from 0."""
    zero = int(np.argmin(np.abs(grid)))
    distance = np.abs(np.asarray(u, dtype=np.float64)[..., None] - grid)
    even = (np.arange(len(grid)) - zero) % 2 == 0
    return np.asarray(grid[np.argmin(distance + np.where(even, 0, 1e-13), axis=-1)])


def hif4(x: F32) -> npt.NDArray[np.float64]:
    """Value by value, from the definition: x [R, K], K a multiple of 64."""
    out = np.zeros(x.shape)
    for r, row in enumerate(x):
        for k in range(0, len(row), 64):
            block = row[k : k + 64].astype(np.float64)
            top = float(f32(np.abs(row[k : k + 64]).max() * f32(1 / 7)))
            s = float(nearest(np.clip(top, E6M2[0], E6M2[-1]), E6M2))
            for i in range(0, 64, 4):
                eight = np.abs(block[i // 8 * 8 : i // 8 * 8 + 8]).max()
                first = 2.0 if eight / s >= 4 else 1.0
                step = s * first * (2.0 if np.abs(block[i : i + 4]).max() / s / first >= 2 else 1.0)
                q = np.floor(np.abs(block[i : i + 4]) / step * 4 + 0.5) / 4
                out[r, k + i : k + i + 4] = np.copysign(np.minimum(q, 1.75), block[i : i + 4]) * step
    return out


def quantized(name: str, x: Tensor) -> npt.NDArray[np.float64]:
    return RECIPES[name].fprop.lhs.dequantized(x).double().numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_hif4(kind: str) -> None:
    """Equal but where FP32's 1 / s moves a tie, in one element of 10,000."""
    x = operand(kind, E2M1)[:24, :320]
    expected = hif4(x.numpy())
    found = quantized("hif4", x)
    assert (found != expected).mean() < 1e-4
    np.testing.assert_allclose(found, expected, atol=float(np.abs(x).max()) / 7, rtol=0)


def test_micro_exponents_beat_one_scale() -> None:
    """Parts of a Gaussian block with small values have a finer step: a third less squared error."""
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    q = RECIPES["hif4"].fprop.lhs
    assert isinstance(q, BlockQuantizer)
    plain = BlockQuantizer(q.element, q.scale, 64, rounding=q.rounding)
    errors = [float((p.dequantized(x) - x).square().mean()) for p in (plain, q)]
    assert errors[1] < errors[0] * 2 / 3, errors


@pytest.mark.parametrize("sizes", [(8, 3), (5,), (4, 8), (64,), (0,), (8.0,)])
def test_parts_that_do_not_divide_are_refused(sizes: Any) -> None:
    with pytest.raises(OptionError, match="micro_exponents"):
        BlockQuantizer(block=64, micro_exponents=sizes)


BOTH = np.array([-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6])
GRIDS = {
    "mixfp4": [(BOTH, 6.0, 0.0), (np.arange(-7.0, 8), 7.0, 0.0)],
    "razer": [(np.sort(np.append(BOTH, v)), 6.0, 2.0**-9) for v in (-5.0, 5.0)],
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_block_has_the_grid_with_the_smaller_error(name: str, kind: str) -> None:
    """s_i = E4M3(amax_b S / max_i); where errors are within 1e-5, either of the two."""
    x = operand(kind, E2M1)
    blocks = x.numpy().reshape(-1, 16)
    s_enc = f32(448 * 6) / np.abs(blocks).max()
    peak, found = np.abs(blocks).max(-1, keepdims=True), quantized(name, x).reshape(-1, 16)
    errors, values = [], []
    for grid, largest, least in GRIDS[name]:
        s = np.minimum(peak * f32(s_enc * f32(1 / largest)), f32(448)).astype(ml_dtypes.float8_e4m3fn).astype(f32)
        s = np.where(s == 0, f32(least), s)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            u = np.nan_to_num(blocks * np.minimum(f32(1) / (s * (f32(1) / s_enc)), np.finfo(f32).max))
        y = nearest(np.clip(u, grid[0], grid[-1]), grid) * s * float(f32(1) / s_enc)
        values.append(y)
        errors.append(((y - blocks) ** 2).sum(-1))
    first, second = errors
    close = np.abs(first - second) <= 1e-5 * np.maximum(first, second)
    chosen = np.where((second < first)[:, None], values[1], values[0])
    far = ~close[:, None] & (np.abs(found - chosen) > 1e-6 * np.abs(chosen))
    assert far.sum() <= 1e-4 * far.size, f"{far.sum()} elements differ"  # ties that FP32's 1 / s moves
    if kind == "random":
        assert 0.1 < (second < first).mean() < 0.9


def test_a_macro_blocks_largest_element_is_six() -> None:
    """Of 128 elements: exact up to FP32, whatever the power of two of its block of 32."""
    x = torch.randn(16, 512, generator=torch.Generator().manual_seed(2))
    found = RECIPES["mxfp4_macro128"].fprop.lhs.dequantized(x)
    top = x.view(16, -1, 128).abs().argmax(-1, keepdim=True)
    a, b = (t.view(16, -1, 128).gather(-1, top) for t in (x, found))
    torch.testing.assert_close(b, a, rtol=3e-7, atol=0)
    plain = RECIPES["mxfp4"].fprop.lhs.dequantized(x).view(16, -1, 128).gather(-1, top)
    assert float((plain - a).abs().mean()) > 0.05 * float(a.abs().mean())


def test_a_scale_per_row_is_a_tensor_scale_of_each_row() -> None:
    """Every row as if it was the whole operand, bit for bit but for the last multiplication."""
    x = operand("spread", E2M1)[:24, :344].contiguous()
    rows, plain = RECIPES["per_token_nvfp4"].fprop.lhs, RECIPES["nvfp4_plain"].fprop.lhs
    expected = torch.cat([plain.dequantized(row) for row in x.split(1)])
    assert torch.equal(rows.dequantized(x), expected)
    assert not torch.equal(plain.dequantized(x), expected)
