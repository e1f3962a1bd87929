"""Block quantizers against independent computations in numpy and ml_dtypes, bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E8M0, UE4M3, UE5M3
from dse.numerics.techniques.rounding import AwayFromZero, TowardZero
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes import RECIPES
from tests.oracle.grids import nearest

ml_dtypes = pytest.importorskip("ml_dtypes")
F32 = npt.NDArray[np.float32]
f32 = np.float32

MXFP4_FLOOR = BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=TowardZero())
MXFP4_UP = BlockQuantizer(E2M1, E8M0, 32, scale_rounding=AwayFromZero())
MXFP8_UP = BlockQuantizer(E4M3, E8M0, 32, scale_rounding=AwayFromZero())
NVFP4 = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
NVFP4_2D = BlockQuantizer(E2M1, UE4M3, 16, tile=16, tensor_scale=Current())
UE5M3_T = BlockQuantizer(E2M1, UE5M3, 16, tensor_scale=Current(target=448.0))


def operand(kind: str, rows: int = 64, columns: int = 512) -> F32:
    """Operands as they occur: normal, BF16 (many ties), tiny gradients, blocks of very different size, sparse."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, columns)).astype(f32)
    if kind == "bf16":
        x = x.astype(ml_dtypes.bfloat16).astype(f32)
    if kind == "gradient":
        x *= f32(1e-5)
    if kind == "spread":
        x *= np.exp(3 * rng.standard_normal((rows, columns // 16, 1)), dtype=f32).repeat(16, -1).reshape(rows, columns)
    if kind == "sparse":
        x *= rng.random((rows, columns)) < 0.02
    if kind == "edges":  # amax next to 6 * 2^k, 448 * 2^k and powers of two, where a scale changes
        top = np.array([4, 6, 448, 1, 7], f32)[:, None] * 2.0 ** np.arange(-60, 60)
        top = np.stack([top, np.nextafter(top, f32(0)), np.nextafter(top, f32(np.inf))]).astype(f32).reshape(-1)
        x = np.clip(x[:1], -1, 1) * top[:, None]
        x[:, ::16] = top[:, None]
    return x


def mx(x: F32, kind: str) -> F32:
    """MX blocks of 32: the shared exponent from the float's own exponent field (frexp), exact."""
    blocks = x.reshape(x.shape[0], -1, 32)
    significand, exponent = np.frexp(
        np.abs(blocks).max(-1, keepdims=True)
    )  # amax = significand * 2^exponent, in [.5, 1)
    if kind == "floor":  # floor(log2 amax) - 2
        e = exponent - 1 - 2
    elif kind == "up":  # the least e with 6 * 2^e >= amax; 6 = .75 * 2^3
        e = exponent - 3 + (significand > 0.75)
    else:  # the same with 448 = .875 * 2^9
        e = exponent - 9 + (significand > 0.875)
    e = np.where(significand == 0, -127, np.maximum(e, -127))
    limit, dtype = (448, ml_dtypes.float8_e4m3fn) if kind == "e4m3" else (6, ml_dtypes.float4_e2m1fn)
    q = np.clip(np.ldexp(blocks.astype(np.float64), -e), -limit, limit).astype(f32).astype(dtype).astype(np.float64)
    return np.ldexp(q, e).astype(f32).reshape(x.shape)


def two_level(x: F32, target: float, scale: str, tile: int = 1) -> tuple[F32, F32]:
    """NVFP4 (arXiv 2509.25149, App.; FP32 operations in TransformerEngine's order), blocks of 16.

    Returns (element * block scale, alpha = 1 / S_enc).
    """
    amax = np.abs(x).max()
    s_enc = f32(target * 6) / amax if amax else f32(1)
    alpha = f32(1) / s_enc
    tiles = x.reshape(x.shape[0] // tile, tile, -1, 16)
    z = np.abs(tiles).max((1, 3), keepdims=True) * f32(s_enc * f32(1 / 6))
    if scale == "ue4m3":
        s = np.minimum(z, f32(448)).astype(ml_dtypes.float8_e4m3fn).astype(f32)
    else:
        s = nearest(z, UE5M3).astype(f32)
    with np.errstate(divide="ignore"):
        encode = np.minimum(f32(1) / (s * alpha), np.finfo(f32).max)
    q = np.clip(tiles * encode, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(f32)
    return (q * s).reshape(x.shape), alpha


KINDS = ["normal", "bf16", "gradient", "spread", "sparse", "edges"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("quantizer", "rule"), [(MXFP4_FLOOR, "floor"), (MXFP4_UP, "up"), (MXFP8_UP, "e4m3")], ids=["floor", "up", "mxfp8"]
)
def test_mx(quantizer: BlockQuantizer, rule: str, kind: str) -> None:
    x = operand(kind)
    found = quantizer(torch.from_numpy(x))
    assert found.alpha is None
    assert np.array_equal(found.values.numpy(), mx(x, rule))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("quantizer", "target", "scale"), [(NVFP4, 448, "ue4m3"), (UE5M3_T, 448, "ue5m3")], ids=["nvfp4", "ue5m3"]
)
def test_two_level(quantizer: BlockQuantizer, target: float, scale: str, kind: str) -> None:
    """Per row group, so that many tensor scales are seen."""
    x = operand(kind)
    for part in np.split(x, len(x) // 4) if len(x) % 4 == 0 else [x]:
        values, alpha = two_level(part, target, scale)
        found = quantizer(torch.from_numpy(part))
        assert found.alpha is not None
        assert found.alpha.item() == alpha, "1 / S_enc"
        assert np.array_equal(found.values.numpy(), values)
        assert np.array_equal(found.dequantize().numpy(), values * alpha)


@pytest.mark.parametrize("kind", ["normal", "bf16", "spread", "sparse"])
def test_two_level_in_tiles(kind: str) -> None:
    x = operand(kind)
    values, alpha = two_level(x, 448, "ue4m3", tile=16)
    found = NVFP4_2D(torch.from_numpy(x))
    assert found.alpha is not None
    assert found.alpha.item() == alpha
    assert np.array_equal(found.values.numpy(), values)


def test_the_recipes_use_these_quantizers() -> None:
    assert RECIPES["mxfp4"].fprop.lhs == MXFP4_FLOOR
    assert RECIPES["mxfp8"].dgrad.lhs == MXFP8_UP
    assert RECIPES["nvfp4"].fprop.lhs == NVFP4
    assert RECIPES["nvfp4"].fprop.rhs == NVFP4_2D
    assert RECIPES["ue5m3_current"].wgrad.rhs == UE5M3_T
