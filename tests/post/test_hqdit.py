"""HQ-DiT's formats and floating GPTQ, and FP4DiT's learned rounding, against NumPy on enumerated grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dse import RECIPES, Recipe, override, quantize_post
from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.techniques.post import AdaRound, Gptq, HqDit, PostTraining, Rtn
from dse.post.layers import PostQuantizedLinear
from tests.post import reference
from tests.post.reference import Array
from tests.post.test_methods import layer, same

KEY = Key(torch.tensor([0, 0]))
GRIDS = {f"e{3 - m}m{m}": reference.floating_grid(3 - m, m) for m in (2, 1, 0)}


def recipe(element: str = "e2m1") -> Recipe:
    """One FP32 scale per output channel of W, one per token of X."""
    own = {"block": {"element": element, "scale": "fp32", "block": 0}}
    return override(override(RECIPES["bf16"], "fprop.rhs", own), "fprop.lhs", own)


def per_channel(w: Array, grid: Array) -> Array:
    return np.broadcast_to(np.abs(w).max(1, keepdims=True) / grid[-1], w.shape)


def weights(kind: str) -> Tensor:
    """Even magnitudes, normal ones, and such with a long tail."""
    draw = torch.Generator().manual_seed(4)
    if kind == "even":
        return torch.rand(12, 64, generator=draw) - 0.5
    normal = torch.randn(12, 64, generator=draw)
    return normal if kind == "normal" else normal**3


@pytest.mark.parametrize(("kind", "expected"), [("even", "e1m2"), ("normal", "e2m1"), ("tail", "e3m0")])
def test_the_format_by_the_ratio_and_gptq_on_its_grid(kind: str, expected: str) -> None:
    w, x = weights(kind), layer(2)[1]
    made = HqDit().make(recipe().fprop, w, InputStatistics.of(x), KEY)
    wide, rows = w.double().numpy(), x.double().numpy()
    sizes = np.sort(np.abs(wide), axis=None)
    ratio = np.log2(sizes[-1] / sizes[int(0.25 * (sizes.size - 1))])
    name = min(GRIDS, key=lambda own: abs(ratio - np.log2(GRIDS[own][-1] / GRIDS[own][1])))
    assert made.element is not None
    assert made.element.name == name == expected
    grid, s = GRIDS[name], per_channel(wide, GRIDS[name])
    found = made.weight.dequantize().double().numpy()
    same(found, reference.gptq(wide, rows, s, 0.01, True, lambda v, scale: reference.nearest(v / scale, grid) * scale))


def test_the_format_by_squared_errors() -> None:
    chosen = set()
    for kind in ("even", "normal", "tail"):
        w = weights(kind)
        made = HqDit(formats="mse").make(recipe().fprop, w, InputStatistics.of(layer(2)[1]), KEY)
        wide = w.double().numpy()
        errors = {}
        for name, grid in GRIDS.items():
            s = per_channel(wide, grid)
            errors[name] = np.square(reference.nearest(wide / s, grid) * s - wide).sum()
        assert made.element is not None
        assert made.element.name == min(errors, key=lambda own: errors[own])
        chosen.add(made.element.name)
    assert len(chosen) > 1


def test_given_formats_are_gptq_s_and_a_mixture_per_channel_is_a_choice() -> None:
    w, x = weights("tail"), layer(2)[1]
    given = HqDit(formats="given").make(recipe().fprop, w, InputStatistics.of(x), KEY)
    plain = Gptq().make(recipe().fprop, w, InputStatistics.of(x), KEY)
    assert torch.equal(given.weight.values, plain.weight.values)
    assert given.element is None
    own = override(recipe(), "fprop.rhs.choice", {"grids": {"elements": ["e1m2", "e3m0"]}})
    mixed = Rtn().make(own.fprop, w, None, KEY).weight.dequantize().double().numpy()
    wide = w.double().numpy()
    best, least = np.zeros_like(wide), np.full(len(wide), np.inf)
    for name in ("e2m1", "e1m2", "e3m0"):
        s = per_channel(wide, GRIDS[name])
        q = reference.nearest(wide / s, GRIDS[name]) * s
        error = np.square(q - wide).sum(1)
        best, least = np.where((error < least)[:, None], q, best), np.minimum(error, least)
    same(mixed, best)


@pytest.mark.parametrize("element", GRIDS)
@pytest.mark.parametrize("aware", [True, False])
def test_learned_rounding(element: str, aware: bool) -> None:
    w, x = layer(5, n=6, k=32)
    wide, rows, grid = w.double().numpy(), x.double().numpy(), GRIDS[element]
    s, quantizer = per_channel(wide, grid), recipe(element).fprop.rhs
    assert isinstance(quantizer, BlockQuantizer)
    rate = 0.003 if aware else 0.05
    method = AdaRound(iterations=300, rate=rate, weight=0.05, scale_aware=aware)
    found = method.quantize(quantizer, w, InputStatistics.of(x), KEY).dequantize().double().numpy()
    expected = reference.adaround(wide, rows, s, grid, 300, rate, 0.05, aware)
    assert (np.abs(found - expected) > 1e-6 * s).sum() <= 2  # a weight that starts halfway may turn either way
    nearest = reference.nearest(wide / s, grid) * s
    lost = [np.square((own - wide) @ rows.T).sum() for own in (found, expected, nearest)]
    assert lost[0] == pytest.approx(lost[1], rel=0.01)
    assert lost[0] < 0.95 * lost[2]


def test_in_a_model() -> None:
    """Rotated by random signs, activations per token: the layer multiplies what the method has made."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 32, bias=False)), torch.randn(300, 64) * torch.logspace(-1, 1, 64)
    own = override(recipe(), "fprop.rotation", {"hadamard": {"size": 64}})
    exact, losses = model(x).detach(), {}
    methods: dict[str, PostTraining | str] = {"hqdit": "hqdit", "adaround": AdaRound(iterations=100), "rtn": "rtn"}
    for name, method in methods.items():
        made = quantize_post(model, method, [x], own)
        inner = made[0]
        assert isinstance(inner, PostQuantizedLinear)
        losses[name] = float((made(x) - exact).square().sum())
        turned = inner.gemm.turn(x, inner.basis)
        torch.testing.assert_close(made(x), inner.gemm.lhs(turned).dequantize() @ inner.weight.mT)
    assert losses["hqdit"] < losses["rtn"]
    plain = quantize_post(model, "hqdit", [x], recipe())
    assert losses["hqdit"] < float((plain(x) - exact).square().sum())


def test_what_they_need() -> None:
    for method, own, text in (
        ("hqdit", RECIPES["mxfp4"], "maps maxima to each format's largest value; set fprop.rhs.constant: none"),
        ("hqdit", RECIPES["four_over_six"], "one format per layer, and fprop.rhs.choice one per block"),
        ("hqdit", recipe("int4"), "chooses among e1m2, e2m1, e3m0, and fprop.rhs.element is int4"),
        ("adaround", RECIPES["four_over_six"], "rounds to one format's grid"),
        ({"hqdit": {"formats": "ratios"}}, recipe(), "hqdit.formats cannot be 'ratios'"),
        ({"hqdit": {"quantile": 1}}, recipe(), r"hqdit.quantile must lie in \[0, 1\)"),
        ({"adaround": {"iterations": 0}}, recipe(), "adaround.iterations must be at least 1"),
        ({"adaround": {"rate": 0}}, recipe(), "adaround.rate must be positive"),
    ):
        with pytest.raises(OptionError, match=text):
            quantize_post(nn.Sequential(nn.Linear(4, 4)), method, [torch.ones(8, 4)], own)  # type: ignore[arg-type]
