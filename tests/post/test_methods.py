"""Post-training methods against an independent implementation (``tests/post/reference.py``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dse.errors import CalibrationError, OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.fixed_scales import FixedScales
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.techniques.balances import Awq, SmoothQuant
from dse.numerics.techniques.post import ErrorDiffusion, Gptq, PostTraining, Rtn
from dse.numerics.techniques.scale_searches import Fitted, Shrunk, WeightedSweep
from dse.recipes import RECIPES
from tests.contract.members import QUANTIZERS
from tests.post import reference
from tests.post.reference import Array

KEY = Key(torch.tensor([0, 0]))
MXFP4, NVFP4 = RECIPES["mxfp4"].fprop.rhs, RECIPES["nvfp4_plain"].fprop.rhs
SCALES = {"mxfp4": reference.mxfp4_scales, "nvfp4_plain": reference.nvfp4_scales}
formats = pytest.mark.parametrize("name", SCALES)


def layer(seed: int = 0, n: int = 12, k: int = 64, rows: int = 200) -> tuple[Tensor, Tensor]:
    """W [N, K] with heavy tails, and rows of correlated X, as FP32."""
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(n, k, generator=draw) ** 3 / 8
    x = torch.randn(rows, k, generator=draw) @ torch.randn(k, k, generator=draw) / 8
    return w, x * torch.rand(k, generator=draw)


def found(method: PostTraining, quantizer: BlockQuantizer, w: Tensor, x: Tensor) -> Array:
    return method.quantize(quantizer, w, InputStatistics.of(x), KEY).dequantize().double().numpy()


def same(a: Array, b: Array) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@formats
def test_gptq(name: str) -> None:
    w, x = layer()
    wide, rows = w.double().numpy(), x.double().numpy()
    s = SCALES[name](wide)
    quantizer = RECIPES[name].fprop.rhs
    for order in ("static", "none"):
        expected = reference.gptq(wide, rows, s, 0.01, order == "static")
        for block in (7, 64):
            same(found(Gptq(block=block, order=order), quantizer, w, x), expected)
    losses = [
        np.square((found(method, quantizer, w, x) - wide) @ rows.T).sum()
        for method in (Gptq(), ErrorDiffusion(), Rtn())
    ]
    assert losses == sorted(losses)


@formats
def test_error_diffusion(name: str) -> None:
    w, x = layer(1)
    wide = w.double().numpy()
    expected = reference.error_diffusion(wide, x.double().numpy(), SCALES[name](wide))
    same(found(ErrorDiffusion(), RECIPES[name].fprop.rhs, w, x), expected)


def test_balances() -> None:
    w, x = layer(2)
    wide, rows = w.double().numpy(), x.double().numpy()
    inputs = InputStatistics.of(x)
    same(SmoothQuant(0.6).factors(MXFP4, w, inputs).numpy(), reference.smoothquant(wide, rows, 0.6))
    best = reference.awq(wide, rows, lambda v: reference.rounded(v, reference.mxfp4_scales(v)), 20)
    same(Awq().factors(MXFP4, w, inputs).numpy(), best)
    dead = InputStatistics.of(x * (torch.arange(64) != 3))
    assert SmoothQuant().factors(MXFP4, w, dead)[3] == 1
    scaled = inputs.scaled(torch.from_numpy(best))
    same(scaled.gram.numpy(), InputStatistics.of(x.double() / torch.from_numpy(best)).gram.numpy())


def test_shrunk_scales() -> None:
    w, x = layer(3)
    wide = w.double().numpy()
    amax = reference.shrunk_maxima(wide, 16, 100, 0.008, 2.4)
    s_enc = 448 * 6 / np.abs(wide).max()
    s = reference.spread(reference.e4m3(amax * s_enc / 6) / s_enc, 16)
    same(found(Rtn(scales=Shrunk()), NVFP4, w, x), reference.rounded(wide, s))
    amax = reference.shrunk_maxima(wide, 32, 100, 0.008, 2.4)
    for gain in (1.0, 0.75):
        s = reference.spread(2.0 ** (np.floor(np.log2(amax)) - 2) / gain, 32)
        same(found(Rtn(scales=Shrunk()), replace(MXFP4, gain=gain), w, x), reference.rounded(wide, s))
    for quantizer in (NVFP4, MXFP4):
        usual = found(Rtn(scales=Shrunk(candidates=10)), quantizer, w, x)
        for factor in (2.0**100, 2.0**-100):  # |error|^2.4 would leave FP32
            np.testing.assert_array_equal(
                found(Rtn(scales=Shrunk(candidates=10)), quantizer, w * factor, x), usual * factor
            )


def test_weighted_sweep_and_fitted_scales() -> None:
    w, x = layer(4)
    wide, rows = w.double().numpy(), x.double().numpy()
    s = reference.weighted_nvfp4(wide, rows, -8, 7)
    same(found(Rtn(scales=WeightedSweep()), NVFP4, w, x), reference.rounded(wide, s))
    same(found(Gptq(scales=WeightedSweep()), NVFP4, w, x), reference.gptq(wide, rows, s, 0.01, True))
    faint = w * torch.where(torch.arange(w.shape[1]) < 16, 3e-6, 1.0)  # some of whose scales round to zero
    s = reference.weighted_nvfp4(faint.double().numpy(), rows, -8, 7)
    made = found(Rtn(scales=WeightedSweep()), NVFP4, faint, x)
    assert (found(Rtn(), NVFP4, faint, x)[:, :16] == 0).all(1).any()
    assert made[:, :16].any()
    same(made, reference.rounded(faint.double().numpy(), s))
    s = reference.fitted_mxfp4(wide)
    same(found(Rtn(scales=Fitted()), MXFP4, w, x), reference.rounded(wide, s))


def test_rotated_statistics_are_those_of_rotated_rows() -> None:
    _, x = layer(5, k=50)
    rotation = RECIPES["quartet"].fprop.rotation
    assert rotation is not None
    basis = rotation.basis(x, KEY)
    turned = InputStatistics.of(x).turned(rotation, basis).gram.numpy()
    h = np.kron(np.eye(2), reference.hadamard(32))
    rows = np.pad(x.double().numpy(), ((0, 0), (0, 14))) @ h
    same(turned, rows.T @ rows)


def test_statistics_of_parts_add_up() -> None:
    _, x = layer(6)
    parts = InputStatistics.of(x[:50]) + InputStatistics.of(x[50:])
    whole = InputStatistics.of(x)
    assert parts.rows == whole.rows == 200
    assert torch.equal(parts.largest, whole.largest)
    same(parts.gram.numpy(), whole.gram.numpy())
    same(parts.mean.numpy(), whole.mean.numpy())


def test_fixed_scales_round_as_every_deterministic_quantizer_does() -> None:
    """Bit for bit, whatever choice, gain, tile, convention or tensor scale it has."""
    w, count = layer(7, n=11, k=75)[0], 0
    for what, q in QUANTIZERS.items():
        if q.random_bits or q.outliers is not None or q.correction is not None or q.remembers:
            continue
        assert torch.equal(FixedScales.of(q, w, KEY).round(w).dequantize(), q(w, KEY).dequantize()), what
        count += 1
    assert count > 40


def test_a_matrix_that_is_not_positive_definite_is_an_error_with_its_remedy() -> None:
    w, x = layer(8, rows=20)
    with pytest.raises(
        CalibrationError, match=r"not positive definite with damping 0; set a larger post.damping \(0.01"
    ):
        found(Gptq(damping=0.0), MXFP4, w, x)
    assert np.isfinite(found(Gptq(), MXFP4, w, x)).all()
    seen = x * (torch.arange(64) != 5)  # a feature that is never seen is rounded to nearest
    assert np.array_equal(found(Gptq(), MXFP4, w, seen)[:, 5], found(Rtn(), MXFP4, w, x)[:, 5])


def test_methods_that_a_quantizer_cannot_have() -> None:
    cases = (
        (Gptq(), RECIPES["bf16"].fprop.rhs, "no block quantizer"),
        (Gptq(), RECIPES["tseng_mxfp4"].dgrad.rhs, "cannot round stochastically"),
        (Rtn(scales=Shrunk()), RECIPES["four_over_six"].fprop.rhs, "tries several"),
        (Rtn(scales=Fitted()), NVFP4, "makes scales of its own"),
        (Gptq(), RECIPES["wang_fp4"].fprop.lhs, "outliers makes others"),
    )
    for method, quantizer, text in cases:
        with pytest.raises(OptionError, match=text):
            method.check(quantizer)
