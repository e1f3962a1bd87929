"""``quantize_post`` on models: the same numbers as the plain layers give on quantized weights, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dse import RECIPES, Recipe, override, quantize_, quantize_post
from dse.errors import CalibrationError, OptionError, UserError
from dse.numerics.gemm import Gemm
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
        assert torch.equal(found[name].first(99), factor * torch.cat(wide)[:30])
        assert found[name].rows == 60


def test_quantized_weights_stay_on_their_grid(net: Net) -> None:
    made = quantize_post(net, "gptq", [images(200)], NVFP4, "idle")
    again = made.get_submodule("fc").weight.clone()  # type: ignore[operator]
    made.to(torch.bfloat16)
    assert torch.equal(made.get_submodule("fc").weight, again)  # type: ignore[arg-type]
    assert made(images(2).bfloat16()).dtype == torch.bfloat16
