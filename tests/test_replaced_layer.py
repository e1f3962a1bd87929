"""A quantized layer behaves like the one it replaces in everything but numerics."""

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

FP32, NVFP4 = RECIPES["fp32"], RECIPES["nvfp4"]
ROTATED = ("quartet", "ufp4", "amd_mxfp4", "graphcore_ue5m3")


def everywhere(name: str) -> Any:
    """A recipe that exempts no layer."""
    return replace(RECIPES[name], exempt=Exempt())


def linear(recipe: Any = NVFP4, k: int = 32, n: int = 8, bias: bool = True) -> Any:
    torch.manual_seed(0)
    return quantize_(nn.Sequential(nn.Linear(k, n, bias=bias)), recipe)


def conv(recipe: Any = NVFP4) -> Any:
    torch.manual_seed(0)
    return quantize_(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), recipe)


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


@pytest.mark.parametrize("name", ["nvfp4", *ROTATED])
def test_an_input_of_another_width_is_refused(name: str) -> None:
    model, kernel = linear(everywhere(name)), conv(everywhere(name))
    for width in (1, 30, 31, 33, 64):
        with pytest.raises(RuntimeError, match=r"QuantizedLinear got an input of shape .* has to be 32"):
            model(normal(4, width))
    with pytest.raises(RuntimeError, match="axis -1 has to be 32"):
        model(torch.tensor(1.0))
    for shape in ((1, 2, 6, 6), (1, 4, 6, 6), (3, 6), (1, 1, 3, 6, 6)):
        with pytest.raises(RuntimeError, match="QuantizedConv2d got an input of shape"):
            kernel(normal(*shape))


def test_integers_are_refused() -> None:
    for model, x in ((linear(), torch.ones(4, 32)), (conv(), torch.ones(1, 3, 6, 6))):
        for dtype in (torch.int64, torch.bool, torch.complex64):
            with pytest.raises(RuntimeError, match="takes floating-point numbers"):
                model(x.to(dtype))


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


def test_a_compiled_model_has_the_eager_bits() -> None:
    model = nn.Sequential(linear(RECIPES["mxfp4_rht_sr"], 32, 16), nn.GELU(), linear(NVFP4, 16, 8))
    set_clock(model, 1, 2)
    x = normal(8, 32)
    y = model(x)
    set_clock(model, 1, 2)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.equal(compiled(x), y)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="exact operation by operation"):
        torch.compile(model, backend="aot_eager", fullgraph=True)(x)


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


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("weight_last", [False, True])
@pytest.mark.parametrize("layout", ["straight", "last", "single", "transposed"])
def test_a_convolutions_output_has_the_layout_of_a_plain_one(layout: str, weight_last: bool, kernel: int) -> None:
    """``y.view(B, -1)`` and in-place activations work on it, as after a plain convolution."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, kernel), nn.ReLU(inplace=True))
    if weight_last:
        plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = normal(2, 3, 6, 7)
    x = {
        "straight": x,
        "last": x.contiguous(memory_format=torch.channels_last),
        "single": x[0],
        "transposed": normal(2, 3, 7, 6).mT,
    }[layout]
    ours = quantize_(copy.deepcopy(plain), NVFP4)
    y = ours(x)
    assert y.stride() == plain(x).stride()
    assert not ours[0](x)._is_view() or layout == "single"  # type: ignore[index]
    y.sum().backward()


def test_outputs_are_no_views() -> None:
    """``fully_shard`` warns of modules that return views: an in-place operation would drop its hooks."""
    for bias in (False, True):
        for shape in ((4, 32), (2, 3, 32), (32,)):
            y = linear(bias=bias)(normal(*shape))
            assert not y._is_view()
            y.relu_().sum().backward()


@pytest.mark.parametrize("name", ["nvfp4", "bf16", "amd_mxfp4", "quartet"])
def test_second_derivatives_are_exact_or_refused(name: str) -> None:
    """The identity recipe has those of a plain layer; behind a quantizer they would be wrong without a word."""
    for kind, x in ((linear, normal(4, 32)), (conv, normal(2, 3, 6, 6))):

        def second(model: nn.Module, x: Tensor = x) -> list[Tensor]:
            leaf = x.clone().requires_grad_()
            (g,) = torch.autograd.grad(model(leaf).pow(3).sum(), leaf, create_graph=True)
            return list(torch.autograd.grad(g.square().sum(), [leaf, *model.parameters()]))

        exact = kind(FP32)
        plain = nn.Sequential(nn.Linear(32, 8) if kind is linear else nn.Conv2d(3, 8, 3, padding=1))
        plain.load_state_dict(exact.state_dict())
        for a, b in zip(second(exact), second(plain), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        rounded = kind(everywhere(name))
        with pytest.raises(RuntimeError, match="no second derivative"):
            second(rounded)
        loss = rounded(x).sum()
        (once,) = torch.autograd.grad(loss, rounded[0].weight, create_graph=True)  # the first is as ever
        set_clock(rounded, 0, 0)
        assert once.requires_grad


def test_what_cannot_be_right_is_refused_by_name() -> None:
    model, x = linear(), normal(4, 32)
    with pytest.raises(RuntimeError, match=r"does not run under torch\.func transforms"):
        torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(dict(model.named_parameters()))
    with pytest.raises(RuntimeError, match=r"does not run under torch\.func transforms"):
        torch.vmap(model)(x[None])
    with pytest.raises(RuntimeError, match=r"cannot be traced by torch\.jit"):
        torch.jit.trace(model, x)
    with pytest.raises(RuntimeError, match="takes dense tensors"):
        model(x.to_sparse())
    with pytest.raises(RuntimeError, match="which are smaller"):
        quantize_(nn.Sequential(nn.Conv2d(3, 8, 3)), NVFP4)(normal(1, 3, 2, 6))
    set_clock(model, 0, 0)
    y = model(x)
    set_clock(model, 0, 0)
    assert torch.equal(torch.func.functional_call(model, dict(model.named_parameters()), (x,)), y)


def test_modes_and_inputs_of_every_kind() -> None:
    """Inference mode (also around ``quantize_``), empty batches, frozen weights, subclasses of Tensor, export."""

    class Mine(Tensor):
        pass

    for kind, x in ((linear, normal(4, 32)), (conv, normal(2, 3, 6, 6))):
        model: Any = nn.Sequential(nn.Linear(32, 8) if kind is linear else nn.Conv2d(3, 8, 3, padding=1))
        with torch.inference_mode():
            quantize_(model, NVFP4)
            y = model(x)
        assert y.is_inference()
        model(x).sum().backward()
        empty = x[:0].clone().requires_grad_()
        model.zero_grad()
        y = model(empty)
        y.sum().backward()
        assert y.shape == (0, *model(x).shape[1:])
        assert empty.grad is not None
        assert not any(p.grad.any() for p in model.parameters())
        assert type(model(x.as_subclass(Mine))) is Mine
        model.requires_grad_(False)
        assert not model(x).requires_grad
        leaf = x.clone().requires_grad_()
        model(leaf).sum().backward()
        assert leaf.grad is not None
        exported = torch.export.export(model.eval(), (x,)).module()
        assert torch.equal(exported(x), model(x))


def test_flops_are_counted_as_for_a_plain_layer() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for model in (nn.Sequential(nn.Linear(32, 8)), linear(), linear(everywhere("amd_mxfp4"))):
        with FlopCounterMode(display=False) as counter:
            model(normal(64, 32).requires_grad_()).sum().backward()  # tokens that no rotation has to pad
        counts.append(counter.get_total_flops())
    assert counts[:2] == [3 * 2 * 64 * 32 * 8] * 2
    assert counts[2] >= counts[0]  # 8 outputs are padded to the rotation's 32 in dgrad


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


def test_autocast_gives_the_dtype_of_a_plain_layer() -> None:
    for kind, plain, x in (
        (linear, nn.Linear(32, 8), normal(4, 32)),
        (conv, nn.Conv2d(3, 8, 3, padding=1), normal(2, 3, 6, 6)),
    ):
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                assert kind()(x).dtype == plain(x).dtype == dtype
            with torch.autocast("cpu", dtype, enabled=False):
                assert kind()(x).dtype == torch.float32
