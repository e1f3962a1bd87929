"""What is not finite stays so behind every recipe, in every place that computes it: loss scaling must see overflows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan

import pytest
import torch
from torch import Tensor, nn

from dse.nn.attention import attend
from dse.nn.quantize import quantize_, set_clock
from dse.numerics.attention import Attention
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES, UE4M3
from dse.numerics.linear_autograd import linear
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.accumulations.groups import Groups
from dse.numerics.techniques.conventions import Convention, Decode, Encode
from dse.numerics.techniques.outliers import Clamp
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer
from dse.pack.layer import PackLayer
from dse.pack.segments import LayerOperands
from dse.recipes import RECIPES
from tests.quantizers import normal

every_recipe = pytest.mark.parametrize("name", RECIPES)
SPECIAL = (inf, -inf, nan)


def through(recipe: Recipe, x: Tensor, w: Tensor, g: Tensor, memory: Tensor | None = None) -> Sequence[Tensor]:
    """Y, dX and dW of one linear at step 3."""
    state = recipe.weights.state(w) if recipe.weights else {}
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    key = Key(torch.tensor([0, 3]), 1, memory=memory)
    parts = recipe.decomposition.state(w.detach()) if recipe.decomposition else {}
    y = linear(x, w, recipe, LinearContext(key, state, parts=parts))
    return y, *torch.autograd.grad(y, (x, w), g)


def visible(t: Tensor) -> bool:
    return not bool(t.isfinite().all())


@every_recipe
def test_one_bad_element_is_seen_in_everything_it_takes_part_in(name: str) -> None:
    """G: both gradients; X: Y and dW; W: Y and dX. In ragged shapes, at the first and at the last element."""
    parts = normal(21, 50), normal(35, 50, seed=1), normal(21, 35, seed=2)
    assert not any(map(visible, through(RECIPES[name], *parts)))
    for value, at in ((inf, (0, 0)), (-inf, (-1, -1)), (nan, (7, 13))):
        for which, seen in ((2, (1, 2)), (0, (0, 2)), (1, (0, 1))):
            bad = [p.clone() for p in parts]
            bad[which][at] = value
            found = through(RECIPES[name], *bad)
            assert [visible(found[i]) for i in seen] == [True, True], (value, at, "XWG"[which])


def test_an_accumulation_model_keeps_them() -> None:
    for recipe in (RECIPES["mxfp4"], RECIPES["ue5m3"]):
        for value in SPECIAL:
            g = normal(9, 130)
            g[3, 100] = value
            found = replace(recipe.dgrad, accumulation=Groups(lattice=1024))(
                g, normal(5, 130, seed=1), Key(torch.tensor([0, 1]))
            )
            assert not found[3].isfinite().any()


@every_recipe
def test_grad_scaler_sees_an_overflow(name: str) -> None:
    """An FP16 head whose scaled gradient overflows: the step is skipped and the scale halved, as without a recipe."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64, bias=False), nn.ReLU(), nn.Linear(64, 16, bias=False))
    quantize_(model, replace(RECIPES[name], exempt=RECIPES["bf16"].exempt))
    set_clock(model, 0, 1)
    x, t = normal(64, 32), normal(64, 16, seed=1)
    optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cpu", init_scale=2.0**16)
    before = [p.detach().clone() for p in model.parameters()]
    loss = (model(x).half().float() - t).square().sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**15
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


CONVENTIONS: list[Convention] = [
    *(Decode(zero, used) for zero in ("flush", "smallest", "one") for used in ("quantized", "unquantized")),
    *(Encode(divisor, zero) for divisor in (False, True) for zero in ("smallest", "one")),
]


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
@pytest.mark.parametrize("scale", SCALES)
def test_no_combination_hides_an_infinity(convention: Convention, scale: str) -> None:
    """Every scale format, convention and kind of tensor scale, a held one that knows nothing of the infinity included.

    An infinity is one again, or NaN; in a finite block beside it nothing changes unless the tensor scale was measured.
    """
    for element in ("e2m1", "int8"):
        for level in (None, Current(), Delayed(), Outer(2)):
            q = BlockQuantizer(ELEMENTS[element], SCALES[scale], 16, convention=convention, tensor_scale=level)
            for dtype in (torch.float32, torch.float64):
                x = normal(3, 40).to(dtype)
                key = Key(torch.tensor([0, 1]), memory=torch.full((6,), 3.0))
                usual = q.dequantized(x, key)
                for value in (inf, -inf):
                    y = x.clone()
                    y[1, 17] = value
                    found = q.dequantized(y, key)
                    assert bool(found[1, 17].isnan()) or float(found[1, 17]) == value, (element, level, dtype)
                    if level is None or isinstance(level, Delayed):
                        assert torch.equal(found[0], usual[0])
                        assert torch.equal(found[1, :16], usual[1, :16])


@pytest.mark.parametrize("compensate", [True, False])
def test_clamping_keeps_infinities(compensate: bool) -> None:
    q = BlockQuantizer(scale=UE4M3, block=16, outliers=Clamp(0.9, compensate), tensor_scale=Current())
    for value in SPECIAL:
        x = normal(8, 32)
        x[2, 5] = value
        assert visible(q.dequantized(x)[2, :16])


@pytest.mark.parametrize("name", ["sagebwd", "sageattention3", "attn_qat", "full_stack_attention", "fp4_fa4"])
def test_attention(name: str) -> None:
    """A bad element of dO is seen in dQ, dK and dV; one of V in O; one of Q or K in O."""
    own = RECIPES[name].attention
    assert own is not None
    same = Attention(
        *(replace(p, wgrad=RECIPES["nvfp4"].wgrad, dgrad=RECIPES["ue5m3"].dgrad) for p in (own.scores, own.outputs))
    )
    for numerics in (own, same):
        for value in SPECIAL:
            for which in range(4):
                q, k, v, g = (normal(2, 24, 16, seed=s) for s in range(4))
                (q, k, v, g)[which][1, 5, 3] = value
                leaves = [t.requires_grad_() for t in (q, k, v)]
                y = attend(numerics, *leaves, False, None, Key(torch.tensor([0, 1]), 1))
                grads = torch.autograd.grad(y, leaves, g)
                assert all(map(visible, grads)) if which == 3 else visible(y)
                assert not visible(y[0]), "the other sample"


@pytest.mark.parametrize("name", ["nvfp4", "ue5m3", "graphcore_ue5m3", "nvfp4_4over6"])
def test_in_a_pack_of_members(name: str) -> None:
    """A member's infinity is seen in its own gradients and in nobody else's."""
    x, w, g = normal(3, 20, 48), normal(3, 16, 48, seed=1), normal(3, 20, 16, seed=2)
    g[1, 4, 4] = inf
    clock = torch.tensor([[i, 3] for i in range(3)])
    layer = PackLayer([RECIPES[name]] * 3, w, clock, 0, use_kernels=False)
    (segment,) = layer.segments
    context = layer.context(segment)
    _, held = segment.forward(LayerOperands(x, w), context, (True, True))
    for part in segment.backward(held, g, context, (True, True)):
        assert part is not None
        assert [visible(one) for one in part] == [False, True, False]
