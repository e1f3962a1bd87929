"""SageAttention3 against its released kernel's order of steps, in NumPy float64, and what its parts are good for."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from dse import RECIPES, override, quantize_post
from dse.bench.attention_ablations import VARIANTS, measured, variant
from dse.errors import OptionError
from dse.nn.attention import QuantizedAttention, attend
from dse.nn.quantize import quantize_
from dse.numerics.attention import Attention
from dse.numerics.random import Key
from dse.numerics.validate import check
from dse.post.attention_errors import attention_errors
from dse.post.layers import PostQuantizedLayer
from dse.post.quantize_post import with_method
from dse.tasks.nets.vit import Vit
from tests.post.reference import Array, blocks, e2m1, e4m3, spread

SMOOTH = Attention(smooth_keys=True, smooth_queries=32)
KEY = Key(torch.tensor([0, 0]), 0)


def phi(x: Array, divide_by_rounded: bool = True) -> Array:
    """NVFP4 along the last axis without a tensor scale; a last block that is not full is padded."""
    wide = np.pad(x, ((0, 0), (0, -x.shape[1] % 16)))
    a = np.abs(blocks(wide, 16)).max(-1) / 6
    s, by = spread(e4m3(a), 16), spread(e4m3(a) if divide_by_rounded else a, 16)
    codes = e2m1(np.divide(wide, by, out=np.zeros_like(wide), where=by > 0))
    return np.asarray((codes * s)[:, : x.shape[1]])


def released(q: Array, k: Array, v: Array, causal: bool, tile: int, levels: int, kernel: bool) -> Array:
    """One head: keys without their mean, queries without their tiles', online softmax over tiles of 64 keys whose
    weights have 2688 folded into their exponent, and a sum of weights that are not quantized."""
    tokens, dim = q.shape
    k = k - k.mean(0)
    out = np.zeros((tokens, v.shape[1]))
    v_hat = phi(v.T).T
    factor = 2688.0 if levels == 2 else 1.0
    for first in range(0, tokens, tile):
        own = q[first : first + tile]
        mean = own.mean(0)
        s = (phi(own - mean) @ phi(k).T + mean @ k.T) / np.sqrt(dim)
        if causal:
            rows = np.arange(first, first + len(own))[:, None]
            s = np.where(np.arange(tokens)[None] > rows, -np.inf, s)
        top = s.max(-1, keepdims=True)  # of the whole row: what an online softmax ends with
        p = np.exp(s - top) * factor
        out[first : first + tile] = phi(p, not kernel) @ v_hat / p.sum(-1, keepdims=True)
    return out


def heads(tokens: int, dim: int = 32, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 3, tokens, dim, dtype=torch.float64, generator=draw)
    return [2 * q + torch.randn(dim, generator=draw), k + 3 * torch.randn(dim, generator=draw), v]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("changes", "levels", "tile", "kernel"),
    [
        ({}, 2, 128, False),
        ({"attention.outputs.X.convention": {"decode": {"encode_with": "unquantized"}}}, 2, 128, True),
        (VARIANTS["P in one level"], 1, 128, False),
        ({"attention.smooth_queries": 0}, 2, 150, False),
        ({"attention.smooth_queries": 40}, 2, 40, False),
    ],
)
def test_the_released_kernel(changes: dict[str, object], levels: int, tile: int, kernel: bool, causal: bool) -> None:
    q, k, v = heads(150)
    v[:, :, :, 5] *= 1e-4  # a block below half of E4M3's smallest scale vanishes
    found = attend(variant(changes), q, k, v, causal, None, KEY)
    assert (found[..., 5] == 0).all()
    for i in range(2):
        for j in range(3):
            expected = released(*(x[i, j].numpy() for x in (q, k, v)), causal, tile, levels, kernel)
            np.testing.assert_allclose(found[i, j].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_smoothing_is_exact_without_quantization() -> None:
    q, k, v = (x.requires_grad_() for x in heads(70))
    g = torch.randn(2, 3, 70, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    plain, smooth = (
        [y.detach(), *torch.autograd.grad(y, [q, k, v], g)]
        for y in (attend(own, q, k, v, True, None, KEY) for own in (Attention(), SMOOTH))
    )
    for a, b in zip(smooth, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_what_each_part_is_good_for() -> None:
    """Orderings of the paper's ablations, on operands whose channels have means."""
    cosine = {name: measured(variant(changes), 256, 64, 2, False).cosine for name, changes in VARIANTS.items()}
    whole = cosine["SageAttention3"]
    assert whole > cosine["P in one level"]
    assert whole > cosine["Q not smoothed"] > cosine["K not smoothed"] > cosine["Q and K not smoothed"]
    assert whole > cosine["Q, K, P and V in MXFP4"]
    assert cosine["Q, K, P and V in INT8"] > 0.999 > cosine["Q and K in NVFP4, P and V in FP8"] > whole


def test_errors_are_those_of_their_definitions() -> None:
    q, k, v = (x.float() for x in heads(64))
    own = RECIPES["sageattention3"].attention
    assert own is not None
    errors = attention_errors(own, q, k, v, causal=True)
    o = attend(own, q, k, v, True, None, KEY).double().numpy().ravel()
    exact = torch.nn.functional.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), is_causal=True)
    e = exact.numpy().ravel()
    expected = (o @ e / np.sqrt(o @ o * (e @ e)), abs(o - e).sum() / abs(e).sum(), np.sqrt(((o - e) ** 2).mean()))
    np.testing.assert_allclose((errors.cosine, errors.relative_l1, errors.rmse), expected, rtol=1e-10)
    exact_errors = attention_errors(Attention(), q, k, v)
    assert exact_errors.rmse < 1e-6 < errors.rmse


def test_after_training_it_quantizes_attention_alone() -> None:
    """Linears are those of BF16, the products those of the recipe."""
    torch.manual_seed(0)
    model = Vit(side=8, patch=2, width=32, depth=2, heads=2, hidden=64, classes=3)
    x = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
    made = quantize_post(model, "rtn", None, "sageattention3")
    cores = [module for module in made.modules() if isinstance(module, QuantizedAttention)]
    layers = [module for module in made.modules() if isinstance(module, PostQuantizedLayer)]
    assert len(cores) > 0 < len(layers)
    assert all(torch.equal(layer.weight, layer.weight.bfloat16().float()) for layer in layers)
    found = made(x)
    for core in cores:
        core.recipe = RECIPES["bf16"]
    torch.testing.assert_close(made(x), quantize_(copy.deepcopy(model), RECIPES["bf16"]).eval()(x))
    assert 1e-3 < float((found - made(x)).norm() / made(x).norm()) < 0.3


def test_what_means_nothing() -> None:
    sage = RECIPES["sageattention3"]
    with pytest.raises(OptionError, match="smooth_queries must be at least 0"):
        override(sage, "attention.smooth_queries", -1)
    with pytest.raises(OptionError, match=r"queries have no block quantizer at attention.scores.fprop.lhs"):
        check(override(sage, "attention.scores.fprop.lhs", "bf16"))
    for method in ("gptq", {"rtn": {"balance": "awq"}}):
        with pytest.raises(OptionError, match=r"no weights to decide about; write post: rtn"):
            with_method(sage, method)  # type: ignore[arg-type]
