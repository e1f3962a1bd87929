"""Moments in few bits and Muon against NumPy twins that share nothing with them, and what they are for."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from dse.errors import OptionError, UserError
from dse.numerics.gemm import Gemm
from dse.optim import OPTIMIZERS, SECOND_MOMENTS, AdamW, Muon, make_optimizer
from dse.optim.layout import Layout
from dse.optim.newton_schulz import orthogonalized
from tests.techniques.stacked import BETA1, BETA2, DECAY, LAYOUT, LR, MATRIX_LR, gradients, members, train

SEED = 47
F32 = np.float32


def power(x: Any) -> Any:
    return F32(2.0 ** np.floor(np.log2(x)))


def test_adam_with_fp8_and_fp16_moments_against_numpy() -> None:
    """MS-AMP's storage: m as E4M3, v as FP16, both with a power of two per tensor; equal but for Adam's last bits."""
    given, start = gradients(SEED, 12, 3), members(3, SEED)
    given = [g * 10.0 ** (n - 9) for n, g in enumerate(given)]  # squares down to 1e-18
    got, state = train(make_optimizer("adamw", "fp8", "fp16"), start, given)
    plain, _ = train(AdamW(), start, given)
    assert not torch.equal(got, plain)
    for e in range(3):
        b1, b2 = F32(BETA1[e]), F32(BETA2[e])
        for name in LAYOUT.names:
            w = LAYOUT.views(start)[name][e].double().numpy()
            m = v = np.zeros(w.shape, F32)
            for t, flat in enumerate(given, 1):
                g = LAYOUT.views(flat)[name][e].numpy()
                m, v = m + (1 - b1) * (g - m), b2 * v + (1 - b2) * g * g
                below = np.sqrt(v / (1 - BETA2[e] ** t)) + 1e-8
                w = w * (1 - LR[e] * DECAY[e]) - LR[e] * m / (1 - BETA1[e] ** t) / below
                s = power(448 / np.abs(m).max())
                m = (m * s).astype(ml_dtypes.float8_e4m3fn).astype(F32) / s
                s = power(65504 / v.max())
                v = (v * s).astype(np.float16).astype(F32) / s
            assert np.allclose(LAYOUT.views(got)[name][e], w, rtol=2e-3, atol=2e-4)
            kept = LAYOUT.views(state["first"])[name][e].numpy()
            codes = kept * power(448 / np.abs(kept).max())
            assert np.array_equal(codes.astype(ml_dtypes.float8_e4m3fn).astype(F32), codes)


@pytest.mark.parametrize("name", SECOND_MOMENTS)
def test_stored_values(name: str) -> None:
    """Zeros stay, signs too, the error is that of the format; what is positive stays so where that is promised."""
    v = members(2, SEED).square()
    v[:, :3], v[1] = 0.0, v[1] * 1e-12
    form = SECOND_MOMENTS[name]
    if form is None:
        return
    kept = form.stored(v, LAYOUT)
    assert torch.equal(kept[v == 0], v[v == 0])
    assert bool((kept >= 0).all())
    if name in ("bf16", "fp16", "nvfp4_sqrt", "nvfp4_hadamard"):
        assert bool((kept[v > 0] > 0).all())
    error = ((kept.sqrt() - v.sqrt()).norm(dim=1) / v.sqrt().norm(dim=1)).max()
    assert error < {"bf16": 2e-3, "fp16": 4e-3, "fp8": 0.05, "mxfp8": 0.05, "nvfp4": 0.2}.get(name, 0.15)


def test_nvfp4_roots_against_numpy() -> None:
    """A parameter of one block and a half, by the definition: floor, two-level scales, elements, squares."""
    print("seed", SEED)
    layout = Layout.of([("a", torch.empty(24))])
    v = layout.join([torch.from_numpy(np.random.default_rng(SEED).lognormal(-9, 2, (1, 24)).astype(F32))])
    form = SECOND_MOMENTS["nvfp4_sqrt"]
    assert form is not None
    kept, root = form.stored(v, layout).numpy()[0], np.sqrt(v.numpy()[0])
    for block in (slice(0, 16), slice(16, 32)):
        r = np.where(root[block] > 0, np.maximum(root[block], root[block].max() / F32(12)), F32(0))
        u = r * (F32(2688) / root.max())
        s = (u.max() / F32(6)).astype(ml_dtypes.float8_e4m3fn).astype(F32)
        q = (u / s).astype(ml_dtypes.float4_e2m1fn).astype(F32)
        assert np.allclose(kept[block], (q * s * (root.max() / F32(2688))) ** 2, rtol=1e-6)


# --------------------------------------------------------------------------------------------------------------- Muon
def quintic(x: Any) -> Any:
    """Newton-Schulz in double precision, on the singular values."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ vt


@pytest.mark.parametrize("name", ["muon", "muon_spectral"])
def test_muon_against_numpy(name: str) -> None:
    """Matrices by singular values in double precision, within what BF16 operands leave; the rest has AdamW's bits."""
    given, start = gradients(SEED, 6, 3), members(3, SEED)
    got, _ = train(OPTIMIZERS[name], start, given)
    adamw, _ = train(AdamW(), start, given)
    for e in range(3):
        for key in LAYOUT.names:
            own = LAYOUT.views(got)[key][e]
            if key not in LAYOUT.hidden:
                assert torch.equal(own, LAYOUT.views(adamw)[key][e])
                continue
            w = LAYOUT.views(start)[key][e].double().numpy()
            first, m, (n, k) = w, np.zeros_like(w), w.shape
            scale = 0.2 * max(n, k) ** 0.5 if name == "muon" else max(1, n / k) ** 0.5
            for flat in given:
                g = LAYOUT.views(flat)[key][e].double().numpy()
                m = 0.95 * m + 0.05 * g
                w = w * (1 - MATRIX_LR[e] * DECAY[e]) - MATRIX_LR[e] * scale * quintic(0.95 * m + 0.05 * g)
            assert np.linalg.norm(own.numpy() - w) < 0.05 * np.linalg.norm(w - first)


def test_singular_values_come_near_one() -> None:
    print("seed", SEED)
    x = torch.randn(3, 64, 24, generator=torch.Generator().manual_seed(SEED))
    s = torch.linalg.svdvals(orthogonalized(x, x.flatten(1).norm(dim=1), Muon().products))
    assert bool(((s > 0.6) & (s < 1.3)).all()), s


@pytest.mark.parametrize("kind", ["normal", "badly scaled", "nearly low rank"])
def test_with_nvfp4_products_the_margin_keeps_singular_values_bounded(kind: str) -> None:
    """Without it they grow beyond all bounds, or would with more iterations."""
    print("seed", SEED)
    random = torch.Generator().manual_seed(SEED)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(4, *shape, generator=random)

    x = draw(24, 64)
    if kind == "badly scaled":
        x = x * torch.logspace(0, -2, 64)
    elif kind == "nearly low rank":
        x = draw(24, 8) @ draw(8, 64) + 0.05 * x
    norms, muon = x.flatten(1).norm(dim=1), OPTIMIZERS["muon_nvfp4"]
    assert isinstance(muon, Muon)
    found = orthogonalized(x, norms, muon.products, muon.iterations, muon.margin)
    s, exact = torch.linalg.svdvals(found), orthogonalized(x, norms, Muon().products)
    assert bool(((s > 0.3) & (s < 1.6)).all()), s
    cosine = (found * exact).sum((1, 2)) / (found.flatten(1).norm(dim=1) * exact.flatten(1).norm(dim=1))
    assert bool((cosine > 0.88).all()), cosine
    assert not bool((orthogonalized(x, norms, muon.products, muon.iterations).abs() < 100).all())


def test_the_margin_divides_singular_values_between_iterations() -> None:
    print("seed", SEED)
    x = np.random.default_rng(SEED).normal(size=(24, 40))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.linalg.norm(s)
    for step in range(4):
        s = s / (1.3 if step else 1)
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    given = torch.from_numpy(x).float()[None]
    found = orthogonalized(given, given.flatten(1).norm(dim=1), Gemm(), 4, 1.3)[0].double().numpy()
    assert np.abs(found - (u * s) @ vt).max() < 1e-4


def test_what_means_nothing_is_refused() -> None:
    for wrong in (("adamm",), ("adamw", "fp9"), ("sgd", "fp8", "fp16"), ("adamw", "nvfp4_sqrt")):
        with pytest.raises(UserError):
            make_optimizer(*wrong)
    for options in ({"momentum": 1.0}, {"scale": "none"}, {"iterations": 0}, {"margin": 0.9}):
        with pytest.raises(OptionError):
            Muon(**options)  # type: ignore[arg-type]
