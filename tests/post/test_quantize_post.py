"""``quantize_post`` on models: the same numbers as the plain layers give on quantized weights, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dse import RECIPES, Recipe, override, quantize_, quantize_post
from dse.errors import CalibrationError, OptionError, UserError
from dse.nn.coverage import coverage
from dse.numerics.gemm import Gemm
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.quantizer import Identity
from dse.numerics.techniques.rotations import Hadamard
from dse.post.calibration import input_statistics
from dse.post.quantize_post import calibrated_layers, quantize_with, with_method

NVFP4 = RECIPES["nvfp4_plain"]


def weights_only(recipe: Recipe = NVFP4, rotation: Hadamard | None = None) -> Recipe:
    return replace(recipe, fprop=Gemm(Identity(), recipe.fprop.rhs, rotation))


class Net(nn.Module):
    """A convolution, linears, and one that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc, self.head, self.idle = nn.Linear(128, 48), nn.Linear(48, 10, bias=False), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.fc(self.conv(x).flatten(1))))
        return logits


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_direct_cast_is_the_layers_own_forward_pass(net: Net) -> None:
    """A trained model under the recipe in evaluation, as ``quantize_`` computes it, with a random rotation too."""
    before = {name: p.clone() for name, p in net.named_parameters()}
    for recipe in (NVFP4, override(NVFP4, "fprop.rotation", {"hadamard": {"size": 16, "signs": "fixed"}})):
        made, trained = quantize_post(net, "rtn", None, recipe, "idle"), quantize_post(net, "rtn", None, recipe, "idle")
        x = images(5)
        other = Net()
        other.load_state_dict(net.state_dict())
        expected = quantize_(other, recipe, exempt=["idle"]).eval()(x)
        torch.testing.assert_close(made(x), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(made(x), trained(x))
        assert not made(x).requires_grad
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_what_is_folded_into_weights_cancels(net: Net) -> None:
    """Under 8-bit weights, balance and rotation leave the output as it was, but for rounding."""
    x, wide = images(64), weights_only(RECIPES["mxint8"], Hadamard(64))
    for method in ("rtn", {"rtn": {"balance": "smoothquant"}}, {"rtn": {"balance": "awq"}}):
        made = quantize_post(net, method, [images(200)], wide, "idle")
        off, exact = made(x) - net(x).detach(), net(x).detach()
        assert 0 < float(off.norm() / exact.norm()) < 0.02


def test_methods_that_look_at_data_have_smaller_errors(net: Net) -> None:
    x, exact = images(300), net(images(300)).detach()

    def loss(method: object) -> float:
        made = quantize_post(net, method, [images(300)], weights_only(), "idle")  # type: ignore[arg-type]
        return float((made(x) - exact).square().mean())

    plain, diffused, best = loss("rtn"), loss("error_diffusion"), loss({"gptq": {"scales": "weighted_sweep"}})
    assert best < diffused < plain


def test_calibration_that_does_not_do(net: Net) -> None:
    cases = (
        (None, "idle", "Gptq looks at activations: give calibration data"),
        ([images(128)], (), "never reached layer idle; calibrate with data that does, or exempt it"),
        ([images(50)], "idle", "layer fc has 128 input features and saw 50 rows; take at least 3 times as many"),
        ([images(200).fill_(math.nan)], "idle", "input of layer conv is NaN"),
        ([images(200), images(2) * math.inf], "idle", "input of layer conv is (NaN|infinite)"),
    )
    for calibration, exempt, text in cases:
        with pytest.raises(CalibrationError, match=text):
            quantize_post(net, "gptq", calibration, NVFP4, exempt)
    with pytest.raises(CalibrationError, match=r"layer fc: gptq: X.T X is not positive definite"):
        quantize_post(net, {"gptq": {"damping": 0}}, [images(1).expand(300, -1, -1, -1)], NVFP4, ["idle", "conv"])
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_recipes_and_models_that_do_not_do(net: Net) -> None:
    cases: tuple[tuple[nn.Module, str, str, str], ...] = (
        (net, "rtn", "nvfp44", "unknown recipe 'nvfp44'; did you mean 'nvfp4'"),
        (net, "gptqq", "nvfp4", "unknown post training 'gptqq'; did you mean 'gptq'"),
        (net, "rtn", "bf16", "it quantizes W, and fprop.rhs has no block quantizer"),
        (net, "rtn", "ue5m3", "fprop.lhs.tensor_scale: it is held from step to step"),
        (net, "rtn", "tetrajet_q_ema", "weights: it acts in training"),
        (nn.Sequential(nn.Conv1d(4, 4, 3)), "rtn", "nvfp4", "covers nn.Linear and zero-padded nn.Conv2d"),
        (nn.Sequential(nn.LSTM(4, 4), nn.Linear(4, 4)), "rtn", "nvfp4", "one fused call"),
    )
    for model, method, recipe, text in cases:
        with pytest.raises((UserError, OptionError), match=text):
            quantize_post(model, method, None, recipe)
    with pytest.raises(UserError, match=r"quantizes after training .* quantize_post"):
        quantize_(net, with_method("mxfp4", "rtn"))


def test_many_configurations_share_one_calibration(net: Net) -> None:
    gptq = with_method(NVFP4, "gptq")
    found = input_statistics(net, calibrated_layers(net, gptq, "idle"), lambda model: model(images(200)))
    assert sorted(found) == ["conv", "fc", "head"]
    assert (found["conv"].rows, found["fc"].rows) == (200 * 16, 200)
    x = images(5)
    for method in ("gptq", {"gptq": {"order": "none"}}):
        own = quantize_with(net, with_method(NVFP4, method), found, "idle")(x)
        assert torch.equal(own, quantize_post(net, method, [images(200)], NVFP4, "idle")(x))


def test_hooks_of_layers_stay(net: Net) -> None:
    """Those before and after a layer act on the quantized one, and their handles remove them."""
    x, plain = images(5), quantize_post(net, "rtn", None, NVFP4, "idle")
    net.fc.register_forward_pre_hook(lambda layer, args: (2 * args[0],))
    net.head.register_forward_hook(lambda layer, args, y: 3 * y)
    made = quantize_post(net, "rtn", None, NVFP4, "idle")
    plain.fc.register_forward_pre_hook(lambda layer, args: (2 * args[0],))
    assert torch.equal(made(x), 3 * plain(x))
    scored = {"autoquantize": {"bits": 16, "score": "output"}}  # of the layer's own output, not of what a hook makes
    assert torch.isfinite(quantize_post(net, scored, [x], NVFP4, "idle")(x)).all()
    normed = nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 8)))
    assert not quantize_post(normed.eval(), "rtn", None, NVFP4)[0]._forward_pre_hooks  # type: ignore[union-attr]


class Named(nn.Module):
    """Calls its layer by the keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 1), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(input=self.conv(input=x).flatten(-2))
        return y


def test_calls_as_plain_layers_take_them() -> None:
    """By keyword, and with one axis."""
    model, x = Named(), torch.randn(20, 2, 4, 4)
    for method in ("gptq", {"autoquantize": {"bits": 16, "score": "output"}}):
        assert quantize_post(model, method, [x], NVFP4)(x).shape == (20, 4, 16)
    assert quantize_(Named(), NVFP4)(x).shape == (20, 4, 16)
    made = quantize_post(nn.Sequential(nn.Linear(16, 8)), "rtn", None, NVFP4)
    rows = torch.randn(3, 16)
    assert torch.equal(made(rows[0]), made(rows[:1])[0])
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0, batch_first=True).eval()  # fuses without gradients
    turned = override(NVFP4, "fprop.rotation", {"hadamard": {"size": 16, "signs": "fixed"}})
    made, x = quantize_post(nn.Sequential(layer), "rtn", None, turned, "*self_attn"), torch.randn(2, 5, 16)
    with torch.no_grad():
        torch.testing.assert_close(made(x), layer(x), rtol=0.3, atol=0.3)


def test_weights_that_are_not_finite(net: Net) -> None:
    """Named before any method, and where they are in a layer that is not quantized, in place of the batch."""
    with torch.no_grad():
        net.fc.weight[0, :2] = math.nan
        net.fc.weight[1, 0] = math.inf
    for method in ("rtn", "gptq", {"rtn": {"branch": "svdquant"}}):
        with pytest.raises(UserError, match=r"fc.weight has 2 NaN and 1 infinite of 6,144 values"):
            quantize_post(net, method, [images(200)], NVFP4, "idle")
    with pytest.raises(CalibrationError, match=r"input of layer head is NaN; fc.weight has 2 NaN"):
        quantize_post(net, "gptq", [images(200)], NVFP4, ["idle", "fc"])


def test_arguments_that_are_none(net: Net) -> None:
    for method in (None, "none"):
        with pytest.raises(UserError, match="needs a method; valid: adaround"):
            quantize_post(net, method, None, NVFP4, "idle")  # type: ignore[arg-type]
    for calibration, text in (
        ({"x": images(9)}, r"this is one dict: write \[it\]"),
        ("text", "this is of type str"),
        (5, "this is of type int"),
        (iter(()), "calibration has no inputs: it is empty, or an iterator that has been used up"),
    ):
        with pytest.raises(CalibrationError, match=text):
            quantize_post(net, "gptq", calibration, NVFP4, "idle")  # type: ignore[arg-type]
    searched = {"autoquantize": {"bits": 16, "score": "output", "method": "gptq"}}
    assert quantize_post(net, searched, (images(200) for _ in range(2)), NVFP4, "idle")(images(2)).isfinite().all()


def test_coverage_knows_what_was_quantized_after_training(net: Net) -> None:
    made = quantize_post(net, "rtn", None, NVFP4, "idle")
    rows = {row.name: row for row in coverage(made).rows}
    assert [(rows[n].recipe, rows[n].flops) for n in ("conv", "fc")] == [("nvfp4_plain", 432), ("nvfp4_plain", 12288)]
    assert rows["idle"].why == "exempt 'idle'"
    assert coverage(made).weights == 1 - 16 / sum(row.weights for row in rows.values())
    kept = quantize_post(net, {"autoquantize": {"bits": 16, "score": "output"}}, [images(20)], NVFP4, ["idle", "conv"])
    why = {row.name: row.why for row in coverage(kept).left}
    assert (why["conv"], why["head"]) == ("exempt 'conv'", "in BF16 by the search of formats")
    with pytest.raises(UserError, match=r"Net is quantized already \(3 layers, recipe 'nvfp4_plain'\)"):
        quantize_post(made, "rtn", None, NVFP4, "idle")


class Shared(nn.Module):
    """Queries and keys of one tensor, values of the same tensor changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        y: Tensor = self.q(x)[..., :4] + self.k(x)
        return y + self.v(x.mul_(2))


def test_layers_of_one_input_share_their_sums() -> None:
    net = Shared()
    batches = [torch.randn(20, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    found = input_statistics(net, {"q": net.q, "k": net.k, "v": net.v}, batches, 30)
    assert found["q"] is found["k"]
    with torch.inference_mode():
        again = input_statistics(net, {"q": net.q, "v": net.v}, batches, 30)
    assert all(torch.equal(again[name].gram, found[name].gram) for name in again)
    wide = [batch.double() for batch in batches]
    for name, factor in (("q", 1), ("v", 2)):
        assert torch.equal(found[name].gram, sum((factor * x).mT @ (factor * x) for x in wide))
        assert torch.equal(found[name].first(99), InputStatistics.of(factor * torch.cat(wide), 30).first(30))
        assert found[name].rows == 60


def test_quantized_weights_stay_on_their_grid(net: Net) -> None:
    made = quantize_post(net, "gptq", [images(200)], NVFP4, "idle")
    again = made.get_submodule("fc").weight.clone()  # type: ignore[operator]
    made.to(torch.bfloat16)
    assert torch.equal(made.get_submodule("fc").weight, again)  # type: ignore[arg-type]
    assert made(images(2).bfloat16()).dtype == torch.bfloat16
