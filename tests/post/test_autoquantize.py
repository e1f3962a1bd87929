"""AutoQuantize: scores against NumPy float64, the choice against all choices, and what does not do."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dse import RECIPES, Recipe, override, quantize_post
from dse.cost.overhead import relative_time
from dse.cost.storage import weight_bits
from dse.errors import CalibrationError, OptionError
from dse.numerics.stored_bits import stored_bits
from dse.post.bit_budget import smallest_sum
from dse.post.calibration import input_statistics
from dse.post.layers import PostQuantizedLayer
from dse.post.quantize_post import calibrated_layers, with_method
from dse.post.sensitivity import question, sensitivities
from tests.post import reference
from tests.post.reference import Array

INT8 = {"block": {"element": "int8", "scale": "fp32", "block": 0}}
ROWS = {"block": {"element": "e2m1", "scale": "fp32", "block": 0}}
MXFP8 = {"block": {"element": "e4m3", "scale_rounding": "up"}}
INPUTS, TARGETS = (torch.randn(96, n, generator=torch.Generator().manual_seed(n)) for n in (64, 16))


def autoquantize(**options: Any) -> dict[str, Any]:
    return {"autoquantize": options}


def net() -> nn.Sequential:
    torch.manual_seed(3)
    layers = [nn.Linear(64, 96), nn.ReLU(inplace=True), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 16, bias=False)]
    return nn.Sequential(*layers)


def losses(model: nn.Module) -> Any:
    for part in range(3):
        rows = slice(32 * part, 32 * part + 32)
        yield (model(INPUTS[rows]) - TARGETS[rows]).square().mean()


def test_the_choice_is_the_best_of_all() -> None:
    for seed in range(12):
        draw = np.random.default_rng(seed)
        layers, formats = int(draw.integers(1, 6)), int(draw.integers(1, 4))
        scores = draw.lognormal(0, 4, (layers, formats)).tolist()
        bits = (
            draw.choice([4.25, 4.5, 8.25, 16], (layers, formats)) * draw.choice([64, 96, 4096], (layers, 1))
        ).tolist()
        sums = [
            (sum(b[i] for b, i in zip(bits, way, strict=True)), sum(s[i] for s, i in zip(scores, way, strict=True)))
            for way in product(range(formats), repeat=layers)
        ]
        for budget in np.quantile([size for size, _ in sums], [0, 0.1, 0.4, 1]):
            found = smallest_sum(scores, bits, budget)
            best = min(score for size, score in sums if size <= budget)
            assert sum(s[i] for s, i in zip(scores, found, strict=True)) == pytest.approx(best, rel=1e-9), (
                f"seed {seed}"
            )
            assert sum(b[i] for b, i in zip(bits, found, strict=True)) <= budget * (1 + 1e-6), f"seed {seed}"
        with pytest.raises(ValueError, match="no choice has at most"):
            smallest_sum(scores, bits, 0.99 * min(size for size, _ in sums))


def forward(model: nn.Sequential, rows: slice) -> tuple[list[Array], list[Array], Array]:
    """Inputs of the three linears, their outputs, and dL/dY of the last."""
    x, inputs, outputs = INPUTS[rows].double().numpy(), [], []
    for at in (0, 2, 4):
        layer = model[at]
        inputs.append(x)
        y = x @ layer.weight.detach().double().numpy().T
        y = y if layer.bias is None else y + layer.bias.detach().double().numpy()
        outputs.append(y)
        x = np.maximum(y, 0)
    return inputs, outputs, 2 * (outputs[2] - TARGETS[rows].double().numpy()) / outputs[2].size


def by_rows(grid: Array) -> Any:
    def quantize(w: Array) -> Array:
        s = np.abs(w).max(1, keepdims=True) / grid[-1]
        return reference.nearest(w / s, grid) * s

    return quantize


QUANTIZE = (
    lambda w: reference.rounded(w, reference.mxfp4_scales(w)),
    by_rows(reference.E2M1),
    by_rows(np.arange(128.0)),
)


@pytest.mark.parametrize("score", ["gradient", "output"])
def test_scores(score: str) -> None:
    model = net()
    recipe = with_method("mxfp4", autoquantize(formats=[ROWS, INT8], score=score))
    found = sensitivities(model, recipe, losses, {})
    squares, sizes = np.zeros((3, 3)), np.zeros(3)
    weights = [model[at].weight.detach().double().numpy() for at in (0, 2, 4)]
    for part in range(3):
        inputs, outputs, g = forward(model, slice(32 * part, 32 * part + 32))
        for at in (2, 1, 0):
            sizes[at] += np.square(outputs[at]).sum()
            for number, f in enumerate(QUANTIZE):
                off = f(inputs[at]) @ f(weights[at]).T - inputs[at] @ weights[at].T
                squares[at, number] += np.square(off * (g if score == "gradient" else 1)).sum()
            g = g @ weights[at] * (outputs[at - 1] > 0) if at else g
    expected = squares if score == "gradient" else squares / sizes[:, None]
    np.testing.assert_allclose([found[str(at)].losses for at in (0, 2, 4)], expected, rtol=2e-3)
    for parameter in model.parameters():
        assert parameter.grad is None
        parameter.requires_grad_(False)
    again = sensitivities(model, recipe, losses, {})
    assert again == found
    assert not any(module._forward_hooks for module in model.modules())


def formats_of(model: nn.Module) -> list[int]:
    return [layer.format for layer in model.modules() if isinstance(layer, PostQuantizedLayer)]


def test_models_under_budgets() -> None:
    model, before = net(), 1.0
    exact = model(INPUTS).detach()
    options = {"formats": [MXFP8, "bf16"]}
    recipe = with_method("nvfp4_plain", autoquantize(**options))
    scores = [own.losses for own in sensitivities(model, recipe, losses, {}).values()]
    sizes = np.array([64 * 96, 96 * 32, 32 * 16])
    sums = []
    for bits in (4.6, 5, 6.5, 9, 16):
        made = quantize_post(model, autoquantize(bits=bits, **options), losses, "nvfp4_plain")
        chosen = formats_of(made)
        stored = [stored_bits(made[2 * i].gemm.rhs, *made[2 * i].weight.shape) for i in range(3)]
        assert np.dot(stored, sizes) <= bits * sizes.sum() * (1 + 1e-6)
        sums.append(sum(s[i] for s, i in zip(scores, chosen, strict=True)))
        off = float((made(INPUTS) - exact).norm() / exact.norm())
        assert off < 1.2 * before
        before = off
    assert sums == sorted(sums, reverse=True)
    assert len(set(sums)) > 3
    assert before < 0.01
    single = quantize_post(model, autoquantize(bits=4.6), losses, "nvfp4_plain")
    assert formats_of(single) == [0, 0, 0]
    assert torch.equal(single(INPUTS), quantize_post(model, "rtn", None, "nvfp4_plain")(INPUTS))


def test_other_roundings_and_rules() -> None:
    """GPTQ in every format, rotated where there are blocks; layers that a rule leaves in BF16 count with 16 bits."""
    model = net()
    recipe = override(RECIPES["mxfp4"], "fprop.rotation", {"hadamard": {"size": 32, "signs": "none"}})
    method = autoquantize(bits=5, formats=[MXFP8, "bf16"], method={"gptq": {"damping": 0.02}})
    made = quantize_post(model, method, losses, recipe)
    gptq = quantize_post(model, {"gptq": {"damping": 0.02}}, losses, recipe)
    same = [i for i, number in zip((0, 2, 4), formats_of(made), strict=True) if number == 0]
    assert 0 < len(same) < 3
    assert all(torch.equal(made[i].weight, gptq[i].weight) for i in same)
    balanced = with_method("mxfp4", autoquantize(balance="awq", method="gptq"))
    within = with_method("mxfp4", autoquantize(method={"gptq": {"balance": "awq"}}))
    assert question(model, balanced) == question(model, within)
    ruled = override(RECIPES["mxfp4"], "layers", [{"last": 1, "recipe": RECIPES["bf16"]}])
    least = (4.25 * (64 * 96 + 96 * 32) + 16 * 32 * 16) / (64 * 96 + 96 * 32 + 32 * 16)
    assert formats_of(quantize_post(model, autoquantize(bits=least + 0.001), losses, ruled)) == [0, 0, 0]
    with pytest.raises(CalibrationError, match=f"narrowest formats take {least:.4f} bits per weight here"):
        quantize_post(model, autoquantize(bits=least - 0.001), losses, ruled)


class Scored(nn.Module):
    """A model that returns its loss, as those of Hugging Face do where they are given labels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor, labels: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=(self.net(x) - labels).square().mean())


def test_models_that_return_their_loss() -> None:
    batches = [{"x": INPUTS[32 * i : 32 * i + 32], "labels": TARGETS[32 * i : 32 * i + 32]} for i in range(3)]
    recipe = with_method("mxfp4", autoquantize(formats=[ROWS, INT8]))
    own = sensitivities(Scored(), recipe, batches, {})
    assert list(own.values()) == list(sensitivities(net(), recipe, losses, {}).values())


def test_configurations_that_ask_the_same() -> None:
    model = net()
    few, many, other = (
        question(model, with_method("mxfp4", autoquantize(**own)))
        for own in ({"bits": 5.0}, {"bits": 9.0}, {"bits": 5.0, "score": "output"})
    )
    assert few == many != other
    gptq = with_method("mxfp4", autoquantize(method="gptq"))
    found = input_statistics(model, calibrated_layers(model, gptq), losses)
    assert [own.rows for own in found.values()] == [96] * 3
    assert question(model, with_method("mxfp4", "gptq")) == ()


def test_what_the_recipe_leaves_takes_from_the_budget() -> None:
    """Three equal layers, the first left in BF16: 11 bits per weight are met by NVFP4 in both others alone."""
    torch.manual_seed(0)
    model, x = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3))), torch.randn(32, 64)
    four = 4.5 + 32 / 64**2
    for way in (("exempt.first", 1), ("layers", [{"first": 1, "recipe": "none"}])):
        recipe = override(RECIPES["nvfp4_plain"], *way)
        for bits, wide in ((11, 0), (12.2, 1), (15.9, 1), (16, 2)):
            made = quantize_post(model, autoquantize(bits=bits), lambda m: m(x).square().mean(), recipe)
            formats = [layer.format for layer in made.modules() if isinstance(layer, PostQuantizedLayer)]
            assert formats.count(1) == wide
            assert (16 + (2 - wide) * four + wide * 16) / 3 <= bits
        with pytest.raises(CalibrationError, match=f"take {(16 + 2 * four) / 3:.4f} bits per weight"):
            quantize_post(model, autoquantize(bits=8), lambda m: m(x).square().mean(), recipe)


def test_costs() -> None:
    """At deployed shapes: the share of each format that makes the budget, of which bits and times are means."""

    def under(bits: float) -> Recipe:
        return with_method("nvfp4_plain", autoquantize(bits=bits, formats=[MXFP8, "bf16"]))

    low = with_method("nvfp4_plain", "rtn")
    assert weight_bits(under(6)) == pytest.approx(6)
    assert weight_bits(under(4)) == weight_bits(low)
    assert weight_bits(under(20)) == 16
    assert relative_time(under(20)) == 1
    share = (8.25 - 6) / (8.25 - weight_bits(low))
    ends = [relative_time(under(bits)) for bits in (4, 8.25)]
    assert relative_time(under(6)) == pytest.approx(share * ends[0] + (1 - share) * ends[1], rel=1e-6)


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(64, 16), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.used(x)
        return y


def test_what_does_not_do() -> None:
    model = net()
    for calibration, text in (
        (None, "AutoQuantize looks at activations: give calibration data"),
        (
            [INPUTS],
            "calibrate with a function that returns it, or yields one after the other, or set post.score: output",
        ),
        (lambda model: model(INPUTS).sum().detach(), "calibrate with a function that returns it"),
        (lambda model: (model(INPUTS * float("inf"))).sum(), "a score of layer 0 is not finite"),
    ):
        with pytest.raises(CalibrationError, match=text):
            quantize_post(model, "autoquantize", calibration, "mxfp4")  # type: ignore[arg-type]
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(CalibrationError, match="calibration never reached layer idle"):
        quantize_post(Idle(), autoquantize(score="output"), [INPUTS], "mxfp4")
    for options, text in (
        ({"bits": 0}, "autoquantize.bits must be positive"),
        ({"bits": 3.5}, "autoquantize.bits is 3.5, and the narrowest format has elements of 4"),
        ({"formats": []}, "formats must be one or more"),
        ({"formats": ["bf16", "bf16"]}, "each of them once"),
        ({"score": "gradients"}, "autoquantize.score cannot be 'gradients'; did you mean 'gradient'"),
        ({"balance": "awq", "method": {"gptq": {"balance": "smoothquant"}}}, "balance is said twice"),
        ({"method": "autoquantize"}, "no other search"),
        ({"method": {"gptq": {"batches": 3}}}, "write autoquantize.batches"),
        ({"formats": [{"block": {"scale_rounding": "mantissa_even", "scale": "ue4m3"}}]}, "post.formats: scale_round"),
        ({"formats": [{"block": {"choice": "four_over_six"}}], "method": "hqdit"}, "hqdit"),
    ):
        with pytest.raises(OptionError, match=text):
            with_method("mxfp4", autoquantize(**options))


class Aside(nn.Module):
    """One layer does not enter the loss, one makes zeros of all it sees, and one sees no rows."""

    def __init__(self, empty: bool) -> None:
        super().__init__()
        self.empty, self.a, self.b, self.zero = empty, nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        nn.init.zeros_(self.zero.weight)
        nn.init.zeros_(self.zero.bias)

    def forward(self, x: Tensor) -> Tensor:
        self.b(x[:0] if self.empty else x)
        y: Tensor = self.a(x) + self.zero(x)
        return y


def test_scores_of_layers_at_the_edge() -> None:
    x, output = torch.randn(32, 16), {"autoquantize": {"bits": 5, "score": "output"}}
    assert quantize_post(Aside(False), output, [x], "nvfp4_plain").zero.format == 0  # type: ignore[union-attr]
    with pytest.raises(CalibrationError, match="calibration never reached layer b"):
        quantize_post(Aside(True), output, [x], "nvfp4_plain")
    with pytest.raises(CalibrationError, match="the loss does not depend on the output of layer b;"):
        quantize_post(Aside(False), {"autoquantize": {"bits": 5}}, lambda m: m(x).square().mean(), "nvfp4_plain")


def test_budgets_hold_what_a_search_of_scales_keeps_beside_the_weights() -> None:
    """MicroScopiQ stores as many groups as a weight has outliers: far more here than of normal weights."""
    block = {"element": "int4", "scale": "e8m0", "block": 64, "constant": 4, "scale_rounding": "toward_zero"}
    recipe = override(RECIPES["mxfp4"], "fprop.rhs", {"block": block})
    model, inputs, budget = net(), torch.randn(128, 64, generator=torch.Generator().manual_seed(5)), 6.5
    with torch.no_grad():
        for at in (0, 2, 4):
            model[at].weight[:, ::8] *= 50  # type: ignore[operator,index]
    options = {"method": {"gptq": {"scales": "microscopiq"}}, "score": "output", "bits": budget}
    made = quantize_post(model, autoquantize(**options), [inputs], recipe)
    layers = [layer for layer in made.modules() if isinstance(layer, PostQuantizedLayer)]
    assert sum(layer.bits for layer in layers) <= budget * sum(layer.weight.numel() for layer in layers)
    assert {layer.format for layer in layers} == {0, 1}
    assert max(layer.bits / layer.weight.numel() for layer in layers if layer.format == 0) > 5.5
    with pytest.raises(CalibrationError, match=r"and the narrowest formats take \d\.\d+ bits per weight here"):
        quantize_post(model, autoquantize(**options | {"bits": 5}), [inputs], recipe)
