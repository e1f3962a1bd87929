"""dX and dW of the quantized linear against a composition of its parts, written out with finite differences.

dX = (dL/dfX . df/dX) R^T: dL/dfX is what the data GEMM computes from its quantized operands, and f acts on X R;
likewise dW.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.nn.linear import quantized_linear
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import UE5M3
from dse.numerics.gemm import Gemm
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.outliers import Asymmetric
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.statistics import Quest, SoftSoft
from dse.numerics.techniques.tensor_scales import Current
from tests.gradients.finite import derivative
from tests.gradients.stairs import Wave, WaveSlope, margins, smooth, stairs  # noqa: F401

pytestmark = pytest.mark.usefixtures("stairs")
M, K, N = 5, 12, 6
CLOCK = torch.tensor([11, 4])
SMOOTH = BlockQuantizer(scale=UE5M3, block=4, constant=4.7, scale_gradient="full", **smooth())
FORWARD: dict[str, tuple[Quantizer, Quantizer]] = {
    "full": (
        replace(SMOOTH, statistic=SoftSoft(3.0)),
        replace(SMOOTH, tile=2, block=3, tensor_scale=Current(17.3, "exact")),
    ),
    "trust mask": (
        replace(SMOOTH, statistic=Quest(1.5), rounding=Wave(outside="zero"), slope=WaveSlope(outside="zero")),
        replace(SMOOTH, outliers=Asymmetric()),
    ),
    "straight through": (BlockQuantizer(block=4), BlockQuantizer(block=8, rounding=Stochastic())),
}
BACKWARD = BlockQuantizer(scale=UE5M3, block=4, rounding=Stochastic(), tensor_scale=Current(448.0))


def spread(rotation: Hadamard | None, key: Key, x: Tensor) -> Tensor:
    """[X 0] (I x R) as one dense product."""
    if rotation is None:
        return x
    r = rotation.matrix(x, key.at(64 + key.point))
    x = pad(x, (0, -x.shape[-1] % rotation.size))
    return x @ torch.block_diag(*[r] * (x.shape[-1] // rotation.size))


def product(gemm: Gemm, point: int, a: Tensor, b: Tensor) -> Tensor:
    key = Key(CLOCK, 3, point)
    left = gemm.lhs.dequantized(spread(gemm.rotation, key, a), key)
    return left @ gemm.rhs.dequantized(spread(gemm.rotation, key, b), key.at(point + 1)).mT


def pull_back(f: Quantizer, key: Key, x: Tensor, cotangent: Tensor) -> Tensor:
    """The cotangent times the derivative of f at ``x``; for a straight-through f the derivative is 1."""
    if f.straight_through:
        return cotangent
    return (derivative(lambda at: f.dequantized(at, key), x) * cotangent).sum((-2, -1)).view_as(x)


def operands(recipe: Recipe) -> tuple[Tensor, Tensor, Tensor]:
    """X, W, G, all casts of the forward GEMM away from kinks."""
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        x, w, g = (torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((M, K), (N, K), (M, N)))
        with margins() as margin:
            product(recipe.fprop, 0, x[None], w[None])
        if float(margin.least) > 1e-3:
            return x, w, g
    raise AssertionError("no seed below 1000 keeps its distance from the kinks")


@pytest.mark.parametrize("source", ["original", "forward"])
@pytest.mark.parametrize("rotation", [None, "none", "fixed", "random"])
@pytest.mark.parametrize("forward", FORWARD)
def test_the_backward_pass_of_a_linear(forward: str, rotation: str | None, source: str) -> None:
    turn = None if rotation is None else Hadamard(8, rotation)
    recipe = Recipe(
        fprop=Gemm(*FORWARD[forward], turn),
        dgrad=Gemm(BACKWARD, replace(BACKWARD, block=3), Hadamard(4)),
        wgrad=Gemm(BACKWARD, replace(BACKWARD, tensor_scale=None), Hadamard(16, "fixed")),
        backward_source=source,
    )
    x, w, g = operands(recipe)
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = quantized_linear(*leaves, None, recipe, LinearContext(Key(CLOCK, 3)))
    found = torch.autograd.grad(y, leaves, g)

    keys = Key(CLOCK, 3, 0), Key(CLOCK, 3, 1)
    turned = [spread(turn, keys[0], t) for t in (x, w)]
    copies = [f.dequantized(t, k) for f, t, k in zip(FORWARD[forward], turned, keys, strict=True)]
    torch.testing.assert_close(y, copies[0] @ copies[1].mT, rtol=1e-12, atol=1e-12)
    xs, ws = copies if source == "forward" else (x, w)
    products = product(recipe.dgrad, 2, g, ws.mT), product(recipe.wgrad, 4, g.mT, xs.mT)
    for side, (quantizer, cotangent) in enumerate(zip(FORWARD[forward], products, strict=True)):
        if source == "original":
            cotangent = spread(turn, keys[0], cotangent)
        pulled = pull_back(quantizer, keys[side], turned[side], cotangent)
        if turn is not None:
            r = turn.matrix(x, keys[0].at(64))
            pulled = (pulled @ torch.block_diag(*[r] * (pulled.shape[-1] // 8)).mT)[:, :K]
        error = (found[side] - pulled).abs().max() / pulled.abs().max()
        assert error < 1e-6, ("dX", "dW")[side]


def test_an_exact_backward_pass_is_the_gradient_of_the_loss() -> None:
    """With smooth casts, unquantized backward GEMMs and forward copies, dX and dW are the derivatives of Y itself."""
    recipe = Recipe(fprop=Gemm(*FORWARD["full"], Hadamard(8)), backward_source="forward")
    x, w, g = operands(recipe)
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = quantized_linear(*leaves, None, recipe, LinearContext(Key(CLOCK, 3)))
    found = torch.autograd.grad(y, leaves, g)

    def loss(x: Tensor, w: Tensor) -> Tensor:
        key = Key(CLOCK, 3, 0)
        left = recipe.fprop.lhs.dequantized(spread(recipe.fprop.rotation, key, x), key)
        right = recipe.fprop.rhs.dequantized(spread(recipe.fprop.rotation, key, w), key.at(1))
        return ((left @ right.mT) * g).sum((-2, -1))

    for side, expected in enumerate((derivative(lambda at: loss(at, w), x), derivative(lambda at: loss(x, at), w))):
        torch.testing.assert_close(found[side].flatten(), expected, rtol=1e-6, atol=1e-8)
