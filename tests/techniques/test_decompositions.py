"""Decompositions: products in parts against NumPy, and what layers keep of them, alone and in packs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor, nn

from dse import quantize_, set_clock
from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0, ELEMENTS
from dse.numerics.gemm import Gemm
from dse.numerics.linear_autograd import linear
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe, override
from dse.numerics.techniques.decompositions import Decomposition, HotChannels, LowRank, Mean, OutControl
from dse.numerics.techniques.decompositions.mean import OF
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import AwayFromZero, Stochastic
from dse.numerics.validate import check
from dse.pack.layer import PackLayer
from dse.pack.linear import _Stacked
from dse.pack.segments import Reference

FP4 = BlockQuantizer(E2M1, E8M0, 16, scale_rounding=AwayFromZero())
GEMM = Gemm(FP4, FP4)
PLAIN = Recipe(fprop=GEMM, dgrad=GEMM, wgrad=GEMM)
M, N, K = 48, 24, 40
_Array = Any


def cast(x: _Array, kind: Any, largest: float, block: int) -> _Array:
    """MX numbers of the rows of x: blocks of elements of a ml_dtypes format, scale 2^ceil(log2(amax / largest))."""
    rows, width = x.shape
    padded = np.zeros((rows, -(-width // block) * block), np.float64)
    padded[:, :width] = x
    blocks = padded.reshape(rows, -1, block)
    mantissa, exponent = np.frexp(np.abs(blocks).max(-1, keepdims=True) / largest)
    scale = np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent))
    return ((blocks / scale).astype(kind).astype(np.float64) * scale).reshape(rows, -1)[:, :width]


def q(x: _Array) -> _Array:
    """FP4 above."""
    return cast(x, ml_dtypes.float4_e2m1fn, 6.0, 16)


def p(x: _Array) -> _Array:
    """MXFP8 with scales rounded up."""
    return cast(x, ml_dtypes.float8_e4m3fn, 448.0, 32)


def operands(*lead: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """X with a mean over tokens and some loud channels, W and G."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(*lead, M, K, generator=draw) + torch.randn(*lead, 1, K, generator=draw)
    x[..., [3, 21, 30]] *= torch.tensor([25.0, 40.0, 11.0])
    return x, torch.randn(*lead, N, K, generator=draw), torch.randn(*lead, M, N, generator=draw)


def computed(
    recipe: Recipe, x: Tensor, w: Tensor, g: Tensor, state: dict[str, Tensor], step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Y, dX and dW of one layer at a step."""
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    clock = torch.tensor([5, step]).expand(*x.shape[:-2], 2)
    y = linear(x, w, recipe, LinearContext(Key(clock, 1), parts=state))
    return (y.detach(), *torch.autograd.grad(y, (x, w), g))


def out_control(source: str) -> tuple[_Array, _Array, _Array]:
    """Y, dX, dW with the three loudest of 40 channels in MXFP8, in NumPy."""
    x, w, g = (t.double().numpy() for t in operands())
    order = np.argsort(-np.linalg.norm(x, axis=0), kind="stable")
    hot, cold = order[:3], order[3:]
    x_copy, w_copy = np.zeros_like(x), np.zeros_like(w)
    for own, copy in ((x, x_copy), (w, w_copy)):
        copy[:, cold], copy[:, hot] = q(own[:, cold]), p(own[:, hot])
    y = x_copy @ w_copy.T
    x_back, w_back = (x_copy, w_copy) if source == "forward" else (x, w)
    dw = np.zeros_like(w)
    dw[:, cold] = q(g.T) @ q(x_back[:, cold].T).T
    dw[:, hot] = p(g.T) @ p(x_back[:, hot].T).T
    return y, q(g) @ q(w_back.T).T, dw


@pytest.mark.parametrize("source", ["original", "forward"])
def test_out_control_against_numpy(source: str) -> None:
    own = OutControl(share=3 / 40, start=2, track=1)
    recipe, (x, w, g) = replace(PLAIN, decomposition=own, backward_source=source), operands()
    state = own.state(w)
    before = computed(recipe, x, w, g, state, 1)
    whole = computed(replace(recipe, decomposition=None), x, w, g, {}, 1)
    assert all(map(torch.equal, before, whole)), "nothing is split before the channels are chosen"
    computed(recipe, x, w, g, state, 2)
    assert not state["chosen"].any()
    for found, expected in zip(computed(recipe, x, w, g, state, 3), out_control(source), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(state["norms"], np.linalg.norm(x.double(), axis=0), rtol=1e-6)
    later = x.flip(-1)
    computed(recipe, later, w, g, state, 9)
    np.testing.assert_allclose(state["norms"], np.linalg.norm(x.double(), axis=0), rtol=1e-6)


def mean(of: str, p_of_means: Callable[[_Array], _Array]) -> tuple[_Array, _Array, _Array]:
    """Y, dX, dW with means split off, in NumPy."""
    x, w, g = (t.double().numpy() for t in operands())
    mu_x, mu_g = (
        t.mean(0, keepdims=True) if of in ("both", which) else np.zeros((1, t.shape[1]))
        for t, which in ((x, "activations"), (g, "gradients"))
    )
    p_x, p_g, x, g = p_of_means(mu_x), p_of_means(mu_g), x - mu_x, g - mu_g
    q_w, q_wt, q_xt, q_gt = q(w), q(w.T), q(x.T), q(g.T)
    dw = q_gt @ q_xt.T + q_gt.sum(1, keepdims=True) @ p_x + (q_xt.sum(1, keepdims=True) @ p_g).T + M * p_g.T @ p_x
    return q(x) @ q_w.T + p_x @ q_w.T, q(g) @ q_wt.T + p_g @ q_wt.T, dw


def bf16(x: _Array) -> _Array:
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


@pytest.mark.parametrize(
    ("own", "p_of_means"), [*((Mean(of), bf16) for of in OF), (Mean("both", FP4), q)], ids=[*OF, "quantized"]
)
def test_mean_against_numpy(own: Mean, p_of_means: Callable[[_Array], _Array]) -> None:
    found = computed(replace(PLAIN, decomposition=own), *operands(), {}, 0)
    for part, expected in zip(found, mean(own.of, p_of_means), strict=True):
        np.testing.assert_allclose(part.numpy(), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("rotated", [False, True])
def test_the_parts_of_a_mean_are_the_whole_without_rounding(rotated: bool) -> None:
    """With elements of 8 bits Y, dX and dW are the plain products within 2 %, behind rotations too."""
    fine = replace(FP4, element=ELEMENTS["int8"])
    gemm = Gemm(fine, fine, Hadamard(16) if rotated else None)
    recipe = Recipe(fprop=gemm, dgrad=gemm, wgrad=gemm, decomposition=Mean())
    x, w, g = operands()
    for part, exact in zip(computed(recipe, x, w, g, {}, 0), (x @ w.T, g @ w, g.T @ x), strict=True):
        assert (part - exact).norm() < 0.02 * exact.norm()


def hot_channels() -> tuple[_Array, _Array, _Array, _Array]:
    """Y, dX, dW with two patched channels, and all channels' scores, in NumPy."""
    x, w, g = (t.double().numpy() for t in operands())
    dx, dw = x - q(x), w - q(w)
    scores = np.abs(dx).mean(0) + np.abs(dw).mean(0)
    hot = np.argsort(-scores, kind="stable")[:2]
    patch = bf16(dx[:, hot]) @ bf16(q(w)[:, hot]).T + bf16(q(x)[:, hot]) @ bf16(dw[:, hot]).T
    return q(x) @ q(w).T + patch, q(g) @ q(w.T).T, q(g.T) @ q(x.T).T, scores


def test_hot_channels_against_numpy() -> None:
    own, (x, w, g) = HotChannels(share=2 / 40, every=3), operands()
    recipe, state = replace(PLAIN, decomposition=own), own.state(w)
    *products, scores = hot_channels()
    for found, expected in zip(computed(recipe, x, w, g, state, 3), products, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(state["scores"], scores, rtol=1e-5)
    computed(recipe, x.flip(-1), w, g, state, 5)
    np.testing.assert_allclose(state["scores"], scores, rtol=1e-5)
    computed(recipe, x.flip(-1), w, g, state, 6)
    assert not torch.allclose(state["scores"], torch.from_numpy(scores).float())
    exact = x.double() @ w.double().mT
    plain = computed(PLAIN, x, w, g, {}, 3)[0]
    assert (torch.from_numpy(products[0]) - exact).norm() < (plain - exact).norm()


@pytest.mark.parametrize("tall", [False, True])
def test_low_rank_against_numpy(tall: bool) -> None:
    own, (x, w, g) = LowRank(rank=5, every=10), operands()
    if tall:
        x, w, g = g, w.mT.contiguous(), x
    recipe, state = replace(PLAIN, decomposition=own), own.state(w)
    a, b = (state[name].double().numpy() for name in ("a", "b"))
    u, sigma, v = np.linalg.svd(w.double().numpy(), full_matrices=False)
    best = (u[:, :5] * sigma[:5]) @ v[:5]
    assert np.linalg.norm(a @ b - best) < 2**-7 * np.linalg.norm(best), "but for BF16"
    xx, ww, gg = (t.double().numpy() for t in (x, w, g))
    rest = ww - a @ b
    y = q(xx) @ q(rest).T + bf16(bf16(xx) @ b.T) @ a.T
    dx = q(gg) @ q(rest.T).T + bf16(bf16(gg) @ a) @ b
    for found, expected in zip(computed(recipe, x, w, g, state, 3), (y, dx, q(gg.T) @ q(xx.T).T), strict=True):
        near = np.isclose(found.numpy(), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
        off = np.abs(found.numpy() - expected)[~near]
        assert near.mean() > 0.98, "sums before a rounding to BF16 or FP4 may fall on either side of a tie"
        assert (off < 2e-2 * np.abs(expected).max()).all()
    own.refresh(2 * w, state, 19)
    assert np.array_equal(state["a"].double().numpy(), a)
    own.refresh(2 * w, state, 20)
    np.testing.assert_allclose((state["a"] @ state["b"]).numpy(), 2 * a @ b, rtol=1e-5, atol=1e-5)


EXAMPLES: dict[str, tuple[Decomposition, Callable[[Recipe], Recipe]]] = {
    "out_control": (OutControl(share=0.2, start=1, track=1), lambda r: replace(r, backward_source="forward")),
    "out_control, original": (OutControl(share=0.2, start=1, track=1), lambda r: r),
    "hot_channels": (HotChannels(share=0.1, every=2), lambda r: replace(r, backward_source="forward")),
    "low_rank": (LowRank(rank=3, every=2), lambda r: replace(r, backward_source="forward")),
    "mean": (Mean(), lambda r: replace(r, backward_source="forward")),
    "mean, stochastic and rotated": (
        Mean(outer=replace(FP4, rounding=Stochastic())),
        lambda r: override(r, "forward.rotation", "hadamard"),
    ),
}
"""Decompositions that are at work from step 2 on, and recipes to put them into."""


def example(name: str) -> Recipe:
    own, into = EXAMPLES[name]
    drawn = replace(FP4, rounding=Stochastic())
    recipe = override(replace(PLAIN, dgrad=Gemm(drawn, drawn)), "wgrad.rotation", "hadamard")
    recipe = replace(into(override(recipe, "G.rounding", "stochastic")), decomposition=own)
    check(recipe)
    return recipe


@pytest.mark.parametrize("name", EXAMPLES)
def test_members_of_a_pack_equal_their_solo_results(name: str) -> None:
    """Over four steps, in a pack with a member of another recipe: Y, gradients and what the layers keep."""
    recipe = example(name)
    members = [recipe, recipe, PLAIN]
    clock = torch.tensor([[5, 0], [6, 0], [7, 0]])
    x, w, g = operands(3)
    layer = PackLayer(members, w, clock, 1, use_kernels=False)
    assert not any(isinstance(part, Reference) for part in layer.segments)
    alone = [own.decomposition.state(w[i]) if own.decomposition else {} for i, own in enumerate(members)]
    for step in range(4):
        clock[:, 1] = step
        w += 0.3 * (w * 7).sin()
        layer.refresh(step)
        leaves = [t.clone().requires_grad_() for t in (x * (step + 1), w)]
        y = _Stacked.apply(*leaves, None, layer)  # type: ignore[no-untyped-call]
        found = (y, *torch.autograd.grad(y, leaves, g))
        for i, own in enumerate(members):
            if own.decomposition is not None:
                own.decomposition.refresh(w[i], alone[i], step)
            one = [t.detach()[i].clone().requires_grad_() for t in leaves]
            context = LinearContext(Key(clock[i].clone(), 1), parts=alone[i])
            z = linear(one[0], one[1], own, context)
            for a, b in zip(found, (z, *torch.autograd.grad(z, one, g[i])), strict=True):
                assert torch.equal(a[i], b), (step, i)
    kept = layer.tensors()
    for tensor in alone[0]:
        assert torch.equal(kept[f"0.parts_{tensor}"], torch.stack([own[tensor] for own in alone[:2]]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_layer_goes_on_from_its_state_dict(name: str) -> None:
    """Bit for bit; a plain layer's state dict begins anew; evaluation looks and changes nothing."""
    recipe, (x, _, _) = example(name), operands()

    def layer() -> nn.Module:
        torch.manual_seed(1)
        return quantize_(nn.Sequential(nn.Linear(K, N)), recipe)

    one, two = layer(), layer()
    for step in range(3):
        set_clock(one, 0, step)
        one(x)
    saved = {name: t.clone() for name, t in one.state_dict().items()}
    for model in (one, two):
        set_clock(model.eval(), 0, 3)
    if one[0].measured:  # type: ignore[union-attr]
        assert not torch.equal(one(x), two(x)), "what is kept makes a difference"
    two.load_state_dict(saved)
    assert torch.equal(one(x), two(x))
    assert all(torch.equal(t, saved[name]) for name, t in one.state_dict().items())
    first = layer().state_dict()
    one.load_state_dict({name: t for name, t in first.items() if "parts_" not in name})
    assert all(torch.equal(t, first[name]) for name, t in one.state_dict().items() if name.startswith("0.parts_"))


REFUSED = {
    "fprop.lhs.slope": ("dge", "straight through"),
    "weights": ("q_ema", "weight rule"),
    "fprop.rotation": ("hadamard", "without fprop.rotation"),
    "*": (None, "no block quantizer"),
}


@pytest.mark.parametrize("path", REFUSED)
def test_combinations_without_a_meaning_are_refused(path: str) -> None:
    value, reason = REFUSED[path]
    recipe = replace(PLAIN, decomposition=OutControl(), backward_source="forward")
    changed = Recipe(decomposition=OutControl()) if path == "*" else override(recipe, path, value)
    with pytest.raises(OptionError, match=reason):
        check(changed)


@pytest.mark.parametrize("wrong", ["share: 1", "start: -1", "track: 0", "outer: {block: {rounding: stochastic}}"])
def test_values_that_are_wrong_by_themselves(wrong: str) -> None:
    with pytest.raises(OptionError, match="out_control"):
        override(PLAIN, "decomposition", {"out_control": YAML(typ="safe").load(f"{{{wrong}}}")})
