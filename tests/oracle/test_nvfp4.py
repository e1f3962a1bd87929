"""NVFP4's two levels against torchao, and against TransformerEngine's arithmetic written down in numpy and ml_dtypes.

TransformerEngine's order of FP32 operations is the definition (arXiv 2509.25149; every step below), and ours equals it
bit for bit. torchao divides where TransformerEngine multiplies by reciprocals. Named differences, pinned:

- block scales below 2^-6: torchao raises them to 2^-6 (its E4M3_EPS), TransformerEngine and we keep E4M3's subnormals
  and flush the block when the scale rounds to zero;
- elements and block scales that are exact ties, or within 2^-21 of one, may go to the other neighbor (a BF16 operand
  with a round amax has such blocks);
- the decoding factor: torchao's amax / 2688 and our 1 / (2688 / amax) may differ in the last bit or two.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.techniques.conventions import Decode
from dse.numerics.techniques.tensor_scales import Current
from tests.oracle.exact import nearest, values
from tests.oracle.operands import KINDS, operand, torchao, torchao_nvfp4

ml_dtypes = pytest.importorskip("ml_dtypes")
F32 = npt.NDArray[np.float32]
f32 = np.float32
TWO_LEVEL = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
ONE_LEVEL = BlockQuantizer(E2M1, UE4M3, 16)
FINITE = KINDS[:-1]
LARGEST = np.finfo(f32).max


def transformer_engine(x: F32, tile: int = 1, target: float = 448.0) -> tuple[F32, F32, Any]:
    """Codes [R/t, t, K/16, 16], block scales [R/t, 1, K/16, 1] and S_dec of one tensor [R, K].

    S_enc = fp32(T * 6 / amax), at most FLT_MAX, 1 where amax or S_enc is 0; S_dec = 1 / S_enc;
    s_b = E4M3(min(amax_b * (S_enc * fp32(1/6)), 448)); q = E2M1(clamp(x * min(1 / (s_b * S_dec), FLT_MAX), -6, 6)).
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        amax = np.abs(x).max()
        s_enc = min(f32(target * 6) / amax, LARGEST) if amax else f32(1)
        s_enc = s_enc or f32(1)
        s_dec = f32(1) / s_enc
        tiles = x.reshape(x.shape[0] // tile, tile, -1, 16)
        z = np.abs(tiles).max((1, 3), keepdims=True) * f32(s_enc * f32(1 / 6))
        s = np.minimum(z, f32(448)).astype(ml_dtypes.float8_e4m3fn).astype(f32)
        encode = np.minimum(f32(1) / (s * s_dec), LARGEST)
        q = np.clip(tiles * encode, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(f32)
    return q, s, s_dec


def tensors(kind: str) -> list[Tensor]:
    """Four rows at a time, each with its own tensor scale, and the whole."""
    x = operand(kind, E2M1)
    return [*x[: len(x) // 4 * 4].split(4), x]


@pytest.mark.parametrize("kind", FINITE)
@pytest.mark.parametrize("tile", [1, 4])
def test_transformer_engine(kind: str, tile: int) -> None:
    quantizer = replace(TWO_LEVEL, tile=tile)
    for x in tensors(kind):
        if len(x) % tile:
            continue
        q, s, s_dec = transformer_engine(x.numpy(), tile)
        found = quantizer(x)
        assert found.alpha is not None
        assert found.alpha.numpy().item() == s_dec.item()
        assert np.array_equal(found.values.numpy(), (q * s).reshape(x.shape))


@pytest.mark.parametrize("amax", [1e-45, 1e-40, 1.1754944e-38, 7.9e-36, 1.0, 3e38, 3.4028234e38])
def test_the_ends_of_the_tensor_scale(amax: float) -> None:
    """S_enc is clamped to FLT_MAX for tensors below 7.9e-36."""
    x = torch.zeros(2, 32)
    x[0, 0], x[1, 3], x[1, 20] = torch.tensor([1, 1 / 3, -1e-3], dtype=torch.float64) * amax
    q, s, s_dec = transformer_engine(x.numpy())
    found = TWO_LEVEL(x)
    assert found.alpha is not None
    assert found.alpha.numpy().item() == s_dec.item()
    assert np.array_equal(found.values.numpy(), (q * s).reshape(x.shape))


@pytest.mark.parametrize("kind", FINITE)
@pytest.mark.parametrize("quantizer", [TWO_LEVEL, ONE_LEVEL], ids=["two", "one"])
def test_torchao(kind: str, quantizer: BlockQuantizer) -> None:
    two = quantizer is TWO_LEVEL
    for x in tensors(kind)[-9:]:
        if two and x.abs().max() < 2688 * 2.0**-126:
            continue  # torchao's amax / 2688 is a float32 subnormal, with fewer bits
        codes, scales = torchao_nvfp4(x, two_level=two)
        found = quantizer(x)
        values = found.values.view_as(codes)
        raised = (scales == 2.0**-6).expand_as(codes)
        wrong = (values != codes * scales) & ~raised
        if two and kind in ("bf16", "ties", "edges"):
            blocks = x.view_as(codes)
            z = blocks.abs().amax(-1, keepdim=True)
            own = torch.from_numpy(transformer_engine(x.numpy())[1]).view_as(scales)
            scale_differs = (own != scales).expand_as(codes)
            chosen = wrong & scale_differs
            near_ties(z.expand_as(codes)[chosen] / 6, torch.ones_like(codes)[chosen], x.abs().max(), "scale ue4m3")
            chosen = wrong & ~scale_differs
            near_ties(blocks[chosen], scales.expand_as(codes)[chosen], x.abs().max(), "element e2m1")
        else:
            assert not wrong.any(), f"{int(wrong.sum())} elements differ"


def near_ties(x: Tensor, s: Tensor, amax: Tensor, fmt: str) -> None:
    """Exactly, x * (2688 / amax) / s is within 2^-21 of the middle between two values of the format."""
    grid = values(fmt)
    middles = [(a + b) / 2 for a, b in pairwise(grid)]
    s_enc = Fraction(2688) / Fraction(amax.item())
    for element, scale in list(zip(x.tolist(), s.tolist(), strict=True))[:50]:
        u = abs(Fraction(element)) * s_enc / Fraction(scale)
        distance = min(abs(u - m) for m in middles)
        assert distance <= u * Fraction(1, 2**21), float(u)


def test_exact_ties_are_decided_by_the_order_of_operations() -> None:
    """Of ties in exact arithmetic TransformerEngine's reciprocals keep some and move some, and so do torchao's.

    2^-24 relative error decides; neither is the exact result, which takes the even code.
    """
    grid = values("element e2m1")
    x = operand("ties", E2M1)[:4]
    codes, scales = torchao_nvfp4(x)
    found = (TWO_LEVEL(x).values.view_as(codes) / scales).nan_to_num()
    s_enc = Fraction(2688) / Fraction(x.abs().max().item())
    usable = (scales > 2.0**-6).squeeze(-1)
    u = [
        [Fraction(v) * s_enc / Fraction(s) for v in block]
        for block, s in zip(x.view_as(codes)[usable].tolist(), scales[usable].flatten().tolist(), strict=True)
    ]
    exact = torch.tensor([[float(nearest(v, grid)) for v in block] for block in u])
    for result in (codes[usable], found[usable]):
        step = (result - exact).abs()
        assert step.max() <= 2  # the other neighbor at most
        assert (step > 0).float().mean() < 0.5


def test_scales_are_torchaos_codes() -> None:
    """The largest block of every tensor has scale 448, from either."""
    for kind in ("random", "bf16", "tiny", "spread"):
        for x in tensors(kind):
            _, s, _ = transformer_engine(x.numpy())
            _, theirs = torchao_nvfp4(x)
            assert s.max() == theirs.max() == 448


def test_the_decoding_factor_is_within_two_ulp_of_torchaos() -> None:
    for kind in ("random", "tiny", "spread"):
        for x in tensors(kind):
            found = TWO_LEVEL(x)
            assert found.alpha is not None
            theirs = torchao("nvfp4_tensor").per_tensor_amax_to_scale(x.abs().max())
            assert abs(int(found.alpha.view(torch.int32)) - int(theirs.view(torch.int32))) <= 2


@pytest.mark.parametrize(("zero", "value"), [("flush", 0.0), ("smallest", 2.0**-9 * 1.5), ("one", 0.0)])
def test_underflowing_block_scales(zero: str, value: float) -> None:
    """A block whose scale 448 amax_b / amax is 2^-11, which rounds to zero.

    'flush': the block is zero (TransformerEngine); 'smallest': s = 2^-9 (modelopt), u = 6 / 4; 'one': s = 1 (UE5M3's
    rule, Quartet II), u = 6 * 2^-11. torchao keeps 2^-6.
    """
    x = torch.zeros(1, 32)
    x[0, 0], x[0, 16] = 1.0, 2.0**-11 / 448
    found = replace(TWO_LEVEL, convention=Decode(zero=zero))(x)
    assert found.values[0, 16] == value
    _, scales = torchao_nvfp4(x)
    assert scales.flatten().tolist() == [448.0, 2.0**-6]


@pytest.mark.parametrize("kind", ["random", "bf16", "tiny", "spread"])
def test_sixteen_by_sixteen(kind: str) -> None:
    """Weight tiles: the same codes seen from either side, so fprop and dgrad use one quantized weight."""
    x = operand(kind, E2M1)
    q, s, s_dec = transformer_engine(x.numpy(), 16)
    tiled = replace(TWO_LEVEL, tile=16)
    found, turned = tiled(x), tiled(x.mT.contiguous())
    assert np.array_equal(found.values.numpy(), (q * s).reshape(x.shape))
    assert torch.equal(found.values, turned.values.mT)
    assert found.alpha is not None
    assert found.alpha.numpy().item() == s_dec.item()
