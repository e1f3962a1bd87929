"""FPQ (LLM-FP4) against its formulas with real exponent biases, every candidate judged by the outputs themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dse import RECIPES, Recipe, override, quantize_post
from dse.errors import CalibrationError, OptionError
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.techniques.post import Fpq, PostOperands
from dse.numerics.techniques.post.fpq import floats
from dse.post.layers import PostQuantizedLinear
from tests.post import reference
from tests.post.test_methods import same

KEY = Key(torch.tensor([0, 0]))


def recipe(w: str = "e2m1", x: str = "e2m1") -> Recipe:
    """One FP32 scale per output channel of W, one for X."""
    own = override(RECIPES["bf16"], "fprop.rhs", {"block": {"element": w, "scale": "fp32", "block": 0}})
    return override(own, "fprop.lhs", {"block": {"element": x, "scale": "fp32", "block": 0, "tile": 0}})


def layer(seed: int, n: int = 6, k: int = 24, rows: int = 60) -> tuple[Tensor, Tensor]:
    """W and X, some of whose features are far larger than the others."""
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(n, k, generator=draw)
    return w, torch.randn(rows, k, generator=draw) * torch.exp2(4 * torch.randn(k, generator=draw).clamp(-1, 1))


def outputs(made: PostOperands, x: Tensor) -> Tensor:
    assert made.static is not None
    return made.static(x.double()).dequantize() @ made.weight.dequantize().double().mT


@pytest.mark.parametrize(("w_format", "x_format", "starts"), [("e2m1", "e2m1", (1, 1)), ("e2m1", "e4m3", (1, 3))])
@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("rounds", [0, 2])
def test_formulas(w_format: str, x_format: str, starts: tuple[int, int], shifts: bool, rounds: int) -> None:
    w, x = layer(7)
    x[57] *= 3  # the largest magnitudes are not in the first rows
    own, bits = recipe(w_format, x_format), (4, 4 if x_format == "e2m1" else 8)
    made = Fpq(shifts=shifts, rounds=rounds, candidates=12, rows=40).make(
        own.fprop, w, InputStatistics.of(x[:25], 40) + InputStatistics.of(x[25:], 40, 25), KEY
    )
    places = np.sort(np.argsort(np.arange(60) * ((np.sqrt(5) - 1) / 2) % 1)[:40])  # evenly, by the golden section
    rows, peaks = x[places].double().numpy(), x.abs().amax(0).double().numpy()
    fw, fx = reference.fpq(w.double().numpy(), rows, rounds, np.linspace(0.01, 1.2, 12), bits, starts, shifts, peaks)
    assert made.static is not None
    if x_format == "e4m3" and not rounds:  # OCP's format ends at 448, the paper's at 480
        return
    same(made.weight.dequantize().double().numpy(), fw)
    same(made.static(x[places].double()).dequantize().numpy(), fx)


def test_min_max_clips_at_the_maxima_of_all_rows() -> None:
    """The largest of late rows too, which a search never looked at; after a rotation the rows come from everywhere."""
    model, x = nn.Sequential(nn.Linear(16, 16)), torch.randn(600, 16)
    x[500, 3] = 50.0
    made = quantize_post(model, {"fpq": {"rounds": 0, "shifts": False}}, [x[:300], x[300:]], recipe())
    assert made[0].scale.item() == pytest.approx(50 / 6)  # type: ignore[union-attr,operator]
    few, many = (InputStatistics.of(x, keep) for keep in (256, 512))
    assert torch.equal(few.first(256), many.first(256))
    assert few.sample is not None
    assert 2 <= int(few.sample.places.diff().max()) <= 5


def test_formats() -> None:
    assert [fmt.name for fmt in floats(4)] == ["e1m2", "e2m1", "e3m0"]
    assert [fmt.name for fmt in floats(8)] == ["e1m6", "e2m5", "e3m4", "e4m3", "e5m2"]
    for bits in (4, 8):
        for fmt in floats(bits):
            grid = fmt.grid.numpy()
            bias = np.round(reference.bias_of(np.array(fmt.max), fmt.exp, fmt.man))
            assert len(grid) == 2 ** (bits - 1)
            np.testing.assert_array_equal(reference.floating(grid, bias, fmt.exp, fmt.man), grid)


def test_published_order() -> None:
    """MinMax, then FPQ-baseline, then FPQ with shifts, on features of very different size."""
    losses = []
    for method in (Fpq(candidates=30), Fpq(shifts=False, candidates=30), Fpq(shifts=False, rounds=0, formats=False)):
        total = 0.0
        for seed in range(3):
            w, x = layer(seed, n=32, k=64, rows=300)
            y = x.double() @ w.double().mT
            made = method.make(recipe().fprop, w, InputStatistics.of(x, 256), KEY)
            total += float((outputs(made, x) - y).square().sum() / y.square().sum())
        losses.append(total / 3)
    print(losses)
    assert losses == sorted(losses)
    assert losses[0] < 0.95 * losses[1]


def test_a_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 32, bias=False), nn.ReLU(), nn.Linear(32, 8, bias=False))
    x = torch.randn(100, 24)
    made = quantize_post(model, {"fpq": {"rounds": 1, "candidates": 20}}, [x[:50], x[50:]], recipe("e2m1", "e4m3"))
    first = made[0]
    assert isinstance(first, PostQuantizedLinear)
    assert first.element is not None
    torch.testing.assert_close(first(x), first._quantized(x).dequantize() @ first.weight.mT, rtol=1e-5, atol=1e-5)
    exact = model(x).detach()
    assert float((made(x) - exact).norm() / exact.norm()) < 0.25
    before = made(x)
    assert torch.equal(made.bfloat16().float()(x), before)
    first.widen_inputs()
    assert not torch.equal(made(x), before)
    with pytest.raises(CalibrationError, match="Fpq looks at activations"):
        quantize_post(model, "fpq", None, recipe())


def test_what_it_needs() -> None:
    for own, method, text in (
        (RECIPES["mxfp4"], "fpq", "one FP32 scale per output channel; write fprop.rhs: {block: {element: e2m1, "),
        (override(recipe(), "X.tile", 1), "fpq", "one FP32 scale of the tensor; write fprop.lhs: "),
        (recipe(), {"fpq": {"scales": "shrunk"}}, "post.scales: fpq searches the scales"),
        (recipe(), {"fpq": {"branch": "lqer"}}, "post.branch: fpq searches the scales"),
        (recipe(), {"fpq": {"rounds": -1}}, "fpq.rounds must be at least 0"),
    ):
        with pytest.raises(OptionError, match=text):
            quantize_post(nn.Sequential(nn.Linear(4, 4)), method, [torch.ones(8, 4)], own)  # type: ignore[arg-type]
