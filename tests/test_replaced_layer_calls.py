"""A quantized layer is called as the layer it replaces: inputs, outputs, dtypes, derivatives, transforms."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dse.nn.quantize import quantize_, set_clock
from dse.recipes import RECIPES
from tests.quantizers import normal
from tests.replaced import FP32, NVFP4, conv, everywhere, linear

ROTATED = ("quartet", "ufp4", "amd_mxfp4", "graphcore_ue5m3")


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
