"""A quantized layer is the layer it replaces: its object, parameters, hooks, state and copies."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from dse.errors import OptionError, UserError
from dse.nn.linear import QuantizedConv2d, QuantizedLinear
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.numerics.recipe import Exempt, override
from dse.recipes import RECIPES
from tests.quantizers import normal
from tests.replaced import FP32, NVFP4, conv, everywhere, linear


def test_it_is_the_same_object_of_a_derived_class() -> None:
    plain: Any = nn.Linear(32, 8)
    kernel = nn.Conv2d(3, 8, 3, stride=2)
    plain.tag = "mine"
    model: Any = quantize_(nn.Sequential(plain, kernel), NVFP4)
    assert list(model) == [plain, kernel]
    assert [type(layer) for layer in model] == [QuantizedLinear, QuantizedConv2d]
    assert isinstance(model[0], nn.Linear)
    assert isinstance(model[1], nn.Conv2d)
    assert (plain.in_features, plain.out_features, plain.tag) == (32, 8, "mine")
    assert (kernel.in_channels, kernel.stride, kernel.groups) == (3, (2, 2), 1)


def test_one_is_built_like_a_plain_layer() -> None:
    torch.manual_seed(3)
    ours = QuantizedLinear(32, 8, bias=False, recipe=NVFP4, layer=5)
    torch.manual_seed(3)
    assert torch.equal(ours.weight, nn.Linear(32, 8, bias=False).weight)
    assert ours.layer == 5
    assert QuantizedConv2d(3, 8, 3, stride=2, recipe=NVFP4)(normal(2, 3, 9, 9)).shape == (2, 8, 4, 4)


def test_the_training_flag_is_taken_over() -> None:
    """What ``from_pretrained`` returns is in evaluation mode, and evaluation samples no held scale."""
    model = quantize_(nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 8).train()).eval(), RECIPES["ue5m3"])
    assert [layer.training for layer in quantized_layers(model)] == [False, False]
    model(normal(4, 32))
    assert all(layer.memory is not None and not layer.memory.any() for layer in quantized_layers(model))


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "spectral_norm": spectral_norm,
    "weight_norm": weight_norm,
    "prune": lambda m: prune.l1_unstructured(m, "weight", amount=0.5),
    "parametrized spectral norm": parametrizations.spectral_norm,
    "parametrized weight norm": parametrizations.weight_norm,
}


def trained(model: nn.Module, x: Tensor, steps: int = 3) -> dict[str, Tensor]:
    """The parameters after a few steps."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(steps):
        set_clock(model, 0, step)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        before_step(model)
        optimizer.step()
        after_step(model)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", sorted(NORMS))
def test_reparametrized_layers_train(name: str, when: str) -> None:
    """As the plain model does, under the identity recipe, whether the norm comes before ``quantize_`` or after."""

    def made(recipe: Any) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 8))
        if when == "after" and recipe is not None:
            quantize_(model, recipe)
        torch.manual_seed(1)  # spectral_norm draws a vector
        NORMS[name](model[0])
        if when == "before" and recipe is not None:
            quantize_(model, recipe)
        assert isinstance(model[0], QuantizedLinear) == (recipe is not None)
        return model

    x = normal(8, 32)
    expected, start = trained(made(None), x), dict(made(None).named_parameters())
    found, rounded = trained(made(FP32), x), trained(made(NVFP4), x)
    assert list(found) == list(expected) == list(rounded) == list(start)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
        assert not torch.equal(rounded[key], start[key]), key


def test_a_weight_rule_refuses_weights_that_are_not_trained_themselves() -> None:
    ruled = override(NVFP4, "weights", "osci_reset")
    model: Any = nn.Sequential(spectral_norm(nn.Linear(32, 16)))
    with pytest.raises(OptionError, match="OsciReset acts on trained weights"):
        quantize_(model, ruled)
    assert type(model[0]) is nn.Linear  # as it was
    model = quantize_(nn.Sequential(nn.Linear(32, 16)), ruled)
    parametrizations.weight_norm(model[0])
    with pytest.raises(OptionError, match="OsciReset acts on trained weights"):
        after_step(model)


def test_parametrizations_come_off_again() -> None:
    model = linear()
    parametrizations.weight_norm(model[0])
    assert isinstance(model[0], QuantizedLinear)
    parametrize.remove_parametrizations(model[0], "weight")
    assert type(model[0]) is QuantizedLinear
    assert model(normal(4, 32)).shape == (4, 8)


def test_hooks_survive() -> None:
    """Forward, backward and state-dict hooks of a replaced layer go on to be called."""
    seen: list[str] = []
    plain = nn.Linear(32, 8)
    plain.register_forward_pre_hook(lambda *_: seen.append("pre"))
    plain.register_forward_hook(lambda *_: seen.append("post"))
    plain.register_full_backward_hook(lambda *_: seen.append("backward"))
    plain.register_state_dict_pre_hook(lambda *_: seen.append("saved"))
    plain.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
    plain.weight.register_hook(lambda _: seen.append("gradient"))
    model = quantize_(nn.Sequential(plain), NVFP4)
    model(normal(4, 32).requires_grad_()).sum().backward()
    model.load_state_dict(model.state_dict())
    assert sorted(seen) == sorted(["pre", "post", "backward", "gradient", "saved", "loaded"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["tetrajet_q_ema", "tetrajet_q_ramping", "tetrajet2", "ue5m3", "fp4_all_the_way_qaf"])
def test_state_keeps_its_dtype(name: str, dtype: torch.dtype) -> None:
    """Held scales and rule state are FP32 (FP64 where W is), and unrounded; the clock stays int64."""
    model = linear(everywhere(name))
    for step in range(2):
        set_clock(model, 7, step)
        model(normal(4, 32)).square().mean().backward()
        before_step(model)
        with torch.no_grad():
            model[0].weight.add_(0.01 * normal(8, 32, seed=step))
        after_step(model)
    before = {key: value.clone() for key, value in model[0].named_buffers()}
    changed = model.to(dtype)
    for key, value in changed[0].named_buffers():
        wide = dtype == torch.float64 and key.startswith("rule_") and value.is_floating_point()
        assert value.dtype == (dtype if wide else before[key].dtype), key
        assert torch.equal(value.to(before[key].dtype), before[key]) or before[key].isnan().all(), key
    assert changed[0].clock.dtype == torch.int64
    assert changed[0].clock.tolist() == [7, 1]


def test_the_average_of_a_model_that_became_bf16_moves() -> None:
    model = linear(everywhere("tetrajet_q_ema")).to(torch.bfloat16)
    start = model[0].rule_ema.clone()
    with torch.no_grad():
        model[0].weight.add_(0.02)
    for _ in range(300):
        before_step(model)
        after_step(model)
    moved = (model[0].rule_ema - start).mean() / (model[0].weight.float() - start).mean()
    assert moved.item() == pytest.approx(1 - 0.998**300, rel=1e-3)


@pytest.mark.parametrize("name", ["tetrajet_q_ramping", "tetrajet2", "tetrajet_q_ema"])
def test_weight_rules_act_on_kernels_in_any_layout(name: str) -> None:
    """A kernel in channels_last is trained as a contiguous one is, by the rule too (but for the order of sums)."""

    def run(recipe: Any, layout: torch.memory_format) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model: Any = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2))
        quantize_(model, replace(recipe, exempt=Exempt()))
        model.to(memory_format=layout)
        return trained(model, normal(4, 3, 8, 8), steps=16)

    rule: Any = RECIPES[name].weights
    recipe = replace(RECIPES[name], weights=replace(rule, **QUICK[name]))
    straight, last = run(recipe, torch.contiguous_format), run(recipe, torch.channels_last)
    without = run(replace(recipe, weights=None), torch.channels_last)
    for key in ("0.weight", "2.weight"):
        assert (last[key] - straight[key]).norm() < 0.1 * (last[key] - without[key]).norm(), key


QUICK: dict[str, dict[str, Any]] = {
    "tetrajet_q_ramping": {"every": 8, "track": 4, "k1": 0.5},
    "tetrajet2": {"every": 6, "track": 4, "ratio": 0.5, "start": 0},
    "tetrajet_q_ema": {"decay": 0.9, "warmup": 0},
}


@pytest.mark.parametrize("name", ["tetrajet_q_ema", "ue5m3", "fp4_all_the_way_qaf"])
def test_a_plain_state_dict_loads_strictly_and_starts_the_numerics_anew(name: str) -> None:
    used = linear(everywhere(name))
    trained(used, normal(4, 32))
    plain = nn.Sequential(nn.Linear(32, 8))
    used.load_state_dict(plain.state_dict())  # strict
    fresh = quantize_(copy.deepcopy(plain), everywhere(name))
    for key, value in fresh.state_dict().items():
        torch.testing.assert_close(used.state_dict()[key], value, rtol=0, atol=0, equal_nan=True)
    own = [key for key in used.state_dict() if key.rsplit(".")[-1] not in ("weight", "bias")]
    some = {key: value for key, value in used.state_dict().items() if key != own[0]}
    if len(own) > 1:
        with pytest.raises(RuntimeError, match="Missing key"):
            used.load_state_dict(some)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        plain.load_state_dict(used.state_dict())
    plain.load_state_dict(used.state_dict(), strict=False)


@pytest.mark.parametrize("name", ["nvfp4", "tetrajet_q_ema", "ue5m3", "fp4_all_the_way_qaf"])
def test_a_model_made_on_meta(name: str) -> None:
    """Shapes come out there; with memory, whatever way the weights come, the numerics are those of a fresh layer."""
    with torch.device("meta"):
        empty: Any = quantize_(nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 4)), everywhere(name))
    assert empty(torch.empty(3, 32, device="meta")).shape == (3, 4)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 4))
    fresh = quantize_(copy.deepcopy(plain), everywhere(name))

    def reset(model: nn.Module) -> None:
        torch.manual_seed(0)
        for layer in model:  # type: ignore[attr-defined]
            layer.reset_parameters()

    def copied(model: nn.Module) -> None:
        with torch.no_grad():
            for p, q in zip(model.parameters(), plain.parameters(), strict=True):
                p.copy_(q)

    ways: dict[str, Callable[[nn.Module], Any]] = {
        "reset": reset,
        "copied": copied,
        "loaded": lambda model: model.load_state_dict(plain.state_dict()),
    }
    x = normal(3, 32)
    for way, fill in ways.items():
        model = copy.deepcopy(empty).to_empty(device="cpu")
        fill(model)
        model(x)
        fresh(x)
        for key, value in fresh.state_dict().items():
            torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0, equal_nan=True, msg=way + key)
    assigned = copy.deepcopy(empty)
    assigned.load_state_dict(plain.state_dict(), assign=True)
    assert torch.equal(assigned(x), quantize_(copy.deepcopy(plain), everywhere(name))(x))


def test_reset_parameters_restarts_the_numerics() -> None:
    model = linear(everywhere("tetrajet_q_ema"))
    trained(model, normal(4, 32))
    model[0].reset_parameters()
    assert torch.equal(model[0].rule_ema, model[0].weight)
    assert model[0].rule_steps == 0


def test_a_whole_model_is_saved_and_copied() -> None:
    model = nn.Sequential(linear(everywhere("tetrajet_q_ema")), nn.Flatten(), conv(everywhere("ue5m3")))[:1]
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    x = normal(4, 32)
    assert torch.equal(other(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_quantize_comes_before_fully_shard() -> None:
    class Sharded(Tensor):
        full_tensor = None

    plain = nn.Linear(4, 4)
    plain.weight = nn.Parameter(plain.weight.detach().as_subclass(Sharded))
    with pytest.raises(UserError, match="call quantize_ before fully_shard"):
        quantize_(nn.Sequential(plain), NVFP4)


class Lora(nn.Module):
    """A low-rank adapter that takes its sizes from the layer it wraps, as peft's does."""

    def __init__(self, base: nn.Module, rank: int = 4) -> None:
        super().__init__()
        assert isinstance(base, nn.Linear)
        self.base = base
        self.a = nn.Linear(base.in_features, rank, bias=False)
        self.b = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.b(self.a(x))
        return y


def test_adapters_take_quantized_layers() -> None:
    model = linear()
    model[0] = Lora(model[0])
    y = model(normal(4, 32))
    y.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert len(quantized_layers(model)) == 1
