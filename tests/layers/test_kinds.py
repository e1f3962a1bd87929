"""Every kind of layer, quantized: the plain layer without quantization, one quantized linear per GEMM with it."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dse.nn.coverage import coverage
from dse.nn.kinds import gemms
from dse.nn.quantize import after_step, before_step, quantize_, quantized_layers, set_clock
from dse.nn.select import OTHERS
from dse.numerics.recipe import Exempt, Recipe
from dse.recipes import RECIPES
from tests.layers.reference import copied, quantized, run
from tests.layers.zoo import ZOO, Subject

every = pytest.mark.parametrize("subject", ZOO.values(), ids=ZOO.keys())
WRITTEN = {name: subject for name, subject in ZOO.items() if subject.formula is not None}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def bare(name: str) -> Recipe:
    return replace(RECIPES[name], exempt=Exempt())


def made(subject: Subject, recipe: Recipe, plain: nn.Module) -> Any:
    return quantize_(nn.Sequential(copy.deepcopy(plain)), recipe)[0]  # type: ignore[index]


@every
def test_the_identity_recipe_is_the_plain_layer(subject: Subject) -> None:
    """Y, dX and every parameter's gradient, in FP64 to 1e-12 and in FP32."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        plain = copied(subject.make(), dtype)
        ours = made(subject, RECIPES["fp32"], plain)
        inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in subject.inputs())
        theirs = run(lambda *x, m=plain: subject.call(m, *x), plain, inputs)
        found = run(lambda *x, m=ours: subject.call(m, *x), ours, inputs)
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in plain.named_parameters()]
        for a, b in zip(found, theirs, strict=True):
            assert a.dtype == dtype
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("subject", WRITTEN.values(), ids=WRITTEN.keys())
@pytest.mark.parametrize("name", ["nvfp4", "mxfp4_rht_sr", "quartet"])
def test_it_is_a_quantized_linear_for_each_gemm(name: str, subject: Subject) -> None:
    """With its own random stream: bit for bit forward, and in the gradients but for the order of sums."""
    recipe, plain = bare(name), subject.make()
    ours = made(subject, recipe, plain)
    set_clock(ours, 3, 4)
    inputs = subject.inputs()
    linear = quantized(recipe, 3, 4)
    expected = run(lambda *x: subject.formula(plain, linear, *x), plain, inputs)  # type: ignore[misc]
    found = run(lambda *x: subject.call(ours, *x), ours, inputs)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=1e-6)
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)
    unquantized = run(lambda *x: subject.call(plain, *x), plain, inputs)
    assert not torch.allclose(found[0], unquantized[0], rtol=1e-3)


@every
def test_it_keeps_what_the_plain_layer_had(subject: Subject) -> None:
    """Parameters, attributes, hooks and training flag; copies and pickles compute the same and share nothing."""
    plain = subject.make().eval()
    seen: list[int] = []
    plain.register_forward_hook(lambda *_: seen.append(1))
    holder = nn.Sequential(plain)
    parameters, keys = list(plain.parameters()), list(plain.state_dict())
    shapes = gemms(plain)
    quantize_(holder, RECIPES["nvfp4"])
    ours: Any = holder[0]
    assert all(a is b for a, b in zip(ours.parameters(), parameters, strict=True))
    assert list(ours.state_dict()) == keys
    assert not any(m.training for m in ours.modules())
    assert [tuple(layer.matrix.shape) for layer in quantized_layers(ours)] == shapes
    numbers = [layer.layer for layer in quantized_layers(ours)]
    assert numbers == [*range(OTHERS, OTHERS + len(shapes))]
    inputs = subject.inputs()
    y = subject.call(ours, *inputs)
    assert seen
    ours._forward_hooks.clear()
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(subject.call(other, *inputs), y)
        for p in other.parameters():
            p.data.zero_()
        assert all(not layer.matrix.any() for layer in quantized_layers(other))
    assert torch.equal(subject.call(ours, *inputs), y)
    assert coverage(holder).weights == 1


@every
@pytest.mark.parametrize("name", ["tetrajet_q_ema", "tetrajet2", "ue5m3", "fp4_all_the_way_qaf"])
def test_what_numerics_remember_works_on_parts(name: str, subject: Subject) -> None:
    """Weight rules and held scales act on each GEMM's slice of the parameters and are in the state dict."""
    recipe, plain = bare(name), subject.make()
    model = nn.Sequential(copy.deepcopy(plain))
    quantize_(model, recipe)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    inputs = subject.inputs()
    for step in range(3):
        set_clock(model, 0, step, 4)
        optimizer.zero_grad()
        subject.call(model[0], *inputs).square().mean().backward()
        before_step(model)
        optimizer.step()
        after_step(model)
    assert all(p.isfinite().all() for p in model.parameters())
    twin = quantize_(nn.Sequential(copy.deepcopy(plain)), recipe)
    twin.load_state_dict(model.state_dict())
    for m in (model, twin):
        m.eval()
        set_clock(m, 0, 3, 4)
    assert torch.equal(subject.call(model[0], *inputs), subject.call(twin[0], *inputs))  # type: ignore[index]


def test_the_weight_of_a_parametrized_layer_is_computed_once_a_call() -> None:
    """Wav2vec's positional convolution: grouped, and weight-normed; a spectral norm turns its vectors at every call."""
    for norm in (nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm):
        for make in (
            lambda: nn.Conv1d(6, 8, 3, groups=2),
            lambda: nn.ConvTranspose1d(6, 4, 3),
            lambda: nn.Linear(9, 4),
        ):
            torch.manual_seed(0)
            plain = nn.Sequential(norm(make()))
            ours = quantize_(copy.deepcopy(plain), RECIPES["fp32"])
            x = torch.randn(2, 6, 9)
            for _ in range(3):
                torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-6)
            for key, value in plain.state_dict().items():
                assert torch.equal(ours.state_dict()[key], value), key
            assert coverage(quantize_(plain, RECIPES["nvfp4"])).weights == 1


@every
def test_dtypes_devices_and_layouts_are_those_of_the_plain_layer(subject: Subject) -> None:
    """A model in BF16, under autocast, on meta, in channels_last; other widths and integers are refused."""
    plain = subject.make()
    ours = made(subject, RECIPES["nvfp4"], plain)
    inputs = subject.inputs()
    with torch.autocast("cpu", torch.bfloat16):
        assert subject.call(ours, *inputs).dtype == subject.call(plain, *inputs).dtype
    low = tuple(x.bfloat16() if x.is_floating_point() else x for x in inputs)
    y = subject.call(copy.deepcopy(ours).bfloat16(), *low)
    assert y.dtype == torch.bfloat16
    meta = copy.deepcopy(ours).to("meta")
    assert subject.call(meta, *(x.to("meta") for x in inputs)).shape == y.shape
    filled = meta.to_empty(device="cpu")
    filled.load_state_dict(ours.state_dict())
    assert torch.equal(subject.call(filled, *inputs), subject.call(ours, *inputs))
    if inputs[0].dim() == 4 and plain._get_name().startswith("Conv"):
        last = inputs[0].to(memory_format=torch.channels_last)
        assert ours(last).stride() == plain(last).stride()
        assert torch.equal(ours(last), ours(inputs[0]))
    axis = -1 if "Conv" not in type(plain).__name__ or type(plain).__name__ == "Conv1D" else 1
    narrow = inputs[0].narrow(axis, 0, inputs[0].shape[axis] - 1)
    for wrong in (narrow, inputs[0].long()):
        with pytest.raises((RuntimeError, AssertionError)):
            subject.call(ours, wrong, *inputs[1:])
