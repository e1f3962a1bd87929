"""What probes report, against independent arithmetic in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.points import POINTS, Point
from dse.numerics.random import Key
from dse.numerics.techniques.rounding import Stochastic
from dse.probes.anatomy import dissect
from dse.probes.layer_look import Look, Seen, looks
from dse.probes.measures import histogram
from dse.recipes import RECIPES

GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E, M, N, K = 2, 24, 40, 64


def key(layer: int = 3) -> Key:
    return Key(torch.tensor([[5, 7], [6, 7]]), layer, memory=torch.zeros(E, 6), sampling=False)


def operands(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    print("seed", seed)
    draw = torch.Generator().manual_seed(seed)
    shapes = ((E, M, K), (E, N, K), (E, M, N))
    x, w, g = (torch.randn(s, generator=draw) * torch.randn(s, generator=draw).exp() for s in shapes)
    x[:, :3] = 0
    return x, w * 0.1, g * 1e-4


def mxfp4(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """OCP MXFP4 of rows x [R, K] in blocks of 32: f(x), the elements before their cast, and log2 s."""
    blocks = np.pad(x.astype(np.float64), ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    largest = np.abs(blocks).max(-1, keepdims=True)
    power = np.where(largest > 0, np.floor(np.log2(np.where(largest > 0, largest, 1))) - 2, -np.inf)
    scale = 2.0**power
    u = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    distance = np.abs(np.abs(u)[..., None] - GRID)
    even = distance + 1e-12 * (np.arange(8) % 2)  # a tie goes to the even code
    q = np.sign(u) * GRID[even.argmin(-1)]

    def rows(b: np.ndarray) -> np.ndarray:
        return b.reshape(len(x), -1)[:, : x.shape[1]]

    return rows(q * scale), rows(u), power.ravel()


def close(a: object, b: float) -> None:
    assert isinstance(a, float)
    assert a == pytest.approx(b, rel=2e-5, abs=1e-7)


def check_operand(look: Look, member: int, x: np.ndarray) -> np.ndarray:
    f, u, power = mxfp4(x)
    x = x.astype(np.float64)
    error = np.linalg.norm(f - x) / np.linalg.norm(x)
    values = {name: float(value[member]) for name, value in look.values.items()}
    close(values["error"], error)
    close(values["qsnr"], 10 * np.log10((x**2).sum() / ((f - x) ** 2).sum()))
    close(values["flushed"], np.mean((f == 0) & (x != 0)))
    close(values["saturated"], np.mean(np.abs(u) > 6))
    names, counts = np.unique(power, return_counts=True)
    expected = {"-127" if p == -np.inf else str(int(p)): int(c) for p, c in zip(names, counts, strict=True)}
    assert look.scales is not None
    assert look.scales[member] == expected
    return f


def test_all_points_of_mxfp4() -> None:
    x, w, g = operands(1)
    found = {look.point: look for look in looks(RECIPES["mxfp4"], Seen(x, w, g, (True, True)), LinearContext(key()))}
    assert list(found) == [*POINTS, "dgrad", "wgrad"]
    for i in range(E):
        a, b, c = x[i].numpy(), w[i].numpy(), g[i].numpy()
        f = [check_operand(found[p], i, t) for p, t in zip(POINTS, (a, b, c, b.T, c.T, a.T), strict=True)]
        for point, q, exact in (("dgrad", f[2] @ f[3].T, c @ b), ("wgrad", f[4] @ f[5].T, c.T @ a)):
            q, exact = q.ravel(), exact.astype(np.float64).ravel()
            values = {name: float(value[i]) for name, value in found[point].values.items()}
            assert values["cosine"] == pytest.approx(np.corrcoef([*q, *-q], [*exact, *-exact])[0, 1], rel=1e-5)
            assert values["error"] == pytest.approx(np.linalg.norm(q - exact) / np.linalg.norm(exact), rel=1e-4)
            assert values["bias"] == pytest.approx((q - exact).mean() / np.abs(exact).mean(), rel=1e-3, abs=1e-6)
            slope = np.linalg.lstsq(exact[:, None], q, rcond=None)[0][0]
            assert values["shrink"] == pytest.approx(slope - 1, abs=1e-5)


def test_stochastic_gradients_do_not_shrink() -> None:
    """Rounding without bias: over many keys the mean of ``shrink`` is 0 within four of its own standard errors."""
    x, w, g = operands(2)
    quantizer = BlockQuantizer(rounding=Stochastic(), gain=0.5)
    recipe = replace(RECIPES["fp32"], dgrad=Gemm(quantizer))
    shrink = []
    for layer in range(60):
        found = {one.point: one for one in looks(recipe, Seen(x, w, g, (True, False)), LinearContext(key(layer)))}
        assert not found["dgrad.lhs"].values["saturated"].any()
        shrink.append(found["dgrad"].values["shrink"].tolist())
    mean, error = np.mean(shrink, 0), np.std(shrink, 0, ddof=1) / 60**0.5
    assert (np.abs(mean) < 4 * error).all()


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_parts_make_up_the_whole(name: str) -> None:
    x = operands(3)[0]
    for point in Point:
        quantizer = RECIPES[name].quantizer(point.path)
        own = key().at(point)
        anatomy = dissect(quantizer, x, own)
        whole = quantizer(x, replace(own, sampling=False))
        assert torch.equal(anatomy.quantized.dequantize(), whole.dequantize())
        if not isinstance(quantizer, BlockQuantizer) or quantizer.outliers:
            continue
        if quantizer.tensor_scale and not quantizer.tensor_scale.tensor_wide:
            continue  # its values hold the second level too
        assert anatomy.elements is not None
        assert anatomy.decode is not None
        values = anatomy.elements * anatomy.decode * (1.0 if quantizer.choice is None else 1 / quantizer.choice.unit)
        assert torch.equal(values, whole.values) or torch.allclose(values, whole.values, rtol=1e-6)
        assert anatomy.scales is not None
        if quantizer.micro_exponents:
            continue  # they are in the decoding factors, and not in the blocks' own scales
        assert set(anatomy.scales.flatten().tolist()) == set(anatomy.decode.flatten().tolist())


def test_nothing_quantized_nothing_seen() -> None:
    x, w, g = operands(4)
    points = [look.point for look in looks(RECIPES["fp32"], Seen(x, w, g, (True, True)), LinearContext(key()))]
    assert not points
    only = [look.point for look in looks(RECIPES["bf16"], Seen(x, w, g, (False, True)), LinearContext(key()))]
    assert only == [*POINTS[:2], *POINTS[4:], "wgrad"]


def test_histogram_of_unusual_scales() -> None:
    scales = torch.tensor([[0.0, 1.0, 1.99, 2.0, torch.inf, torch.nan, 2.0**-127]])
    assert histogram(scales) == [{"zero": 1, "not finite": 2, "-127": 1, "0": 2, "1": 1}]
