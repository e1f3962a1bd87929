"""Rotations cancel in all three GEMMs of a linear, act on both operands alike, and are drawn anew at every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import pytest
import torch
from torch import Tensor

from dse.nn.linear import quantized_linear
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm, rotation_key
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Identity, Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.recipe import GEMMS, Recipe
from dse.numerics.techniques.rotations import Hadamard
from dse.recipes import RECIPES

SIZES = [16, 32, 64, 128]
SIGNS = ["none", "fixed", "random"]
BOTH = [(64, 128, 256), (37, 50, 19), (1, 5, 3)]
"""M, K, N that every size divides or does not; the contraction axes are K, N and M."""


def run(recipe: Recipe, x: Tensor, w: Tensor, g: Tensor, step: int = 0) -> list[Tensor]:
    """Y, dX, dW."""
    leaves = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = quantized_linear(*leaves, None, recipe, LinearContext(Key(torch.tensor([5, step]), 2)))
    return [y.detach(), *torch.autograd.grad(y, leaves, g)]


def operands(m: int, k: int, n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(m)
    shapes = (m, k), (n, k), (m, n)
    x, w, g = (torch.randn(*s, dtype=torch.float64, generator=generator).to(dtype) for s in shapes)
    return x, w, g


@pytest.mark.parametrize("source", ["original", "forward"])
@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("size", SIZES)
def test_without_quantization_every_gemm_is_invariant(size: int, signs: str, source: str) -> None:
    """Each GEMM alone and all three together, dividing and non-dividing lengths: within 1e-13 of |A| |B| in float64.

    (G rotated along one axis and W along another, as in a published simulator, has a relative error above 1.)
    """
    for shape, which in product(BOTH, [*((gemm,) for gemm in GEMMS), GEMMS]):
        x, w, g = operands(*shape)
        recipe = Recipe(backward_source=source, **{gemm: Gemm(rotation=Hadamard(size, signs)) for gemm in which})
        expected = x @ w.mT, g @ w, g.mT @ x
        bounds = (x, w), (g, w.mT), (g.mT, x.mT)
        for name, found, exact, (a, b) in zip(GEMMS, run(recipe, x, w, g), expected, bounds, strict=True):
            limit = 1e-13 * a.norm(dim=1)[:, None] * b.norm(dim=1)
            assert ((found - exact).abs() <= limit).all(), (name, which, shape)


@pytest.mark.parametrize("size", SIZES)
def test_in_float32_a_rotation_costs_rounding_only(size: int) -> None:
    x, w, g = operands(37, 50, 19, torch.float32)
    gemm = Gemm(rotation=Hadamard(size))
    for found, exact in zip(run(Recipe("", "", "", gemm, gemm, gemm), x, w, g), run(Recipe(), x, w, g), strict=True):
        assert 0 < (found - exact).norm() < 1e-6 * exact.norm()


@dataclass(frozen=True, eq=False)
class Spy(Quantizer):
    """Quantizes nothing and remembers what it was given."""

    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        self.seen.append(x)
        return Quantized(x)

    def ops(self) -> tuple[tuple[str, Ops], ...]:
        return ()


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("size", SIZES)
def test_both_operands_meet_the_same_rotation_before_they_are_quantized(size: int, signs: str) -> None:
    """Identity matrices as operands show R itself: every point sees its operand times one R."""
    spies = [Spy() for _ in range(6)]
    gemms = [Gemm(left, right, Hadamard(size, signs)) for left, right in zip(spies[::2], spies[1::2], strict=True)]
    eye = torch.eye(2 * size, dtype=torch.float64)
    run(Recipe("", "", "", *gemms), eye, eye, eye)
    rotations = []
    for i in range(len(gemms)):
        (left,), (right,) = spies[2 * i].seen, spies[2 * i + 1].seen
        r = left[:size, :size]
        assert torch.equal(left, right)
        assert torch.equal(left, torch.block_diag(r, r))
        torch.testing.assert_close(r @ r.mT, eye[:size, :size], rtol=0, atol=1e-14)
        assert torch.equal(r, Hadamard(size, signs).matrix(eye, rotation_key(Key(torch.tensor([5, 0]), 2, 2 * i))))
        rotations.append(r)
    same = torch.equal(rotations[0], rotations[1]) and torch.equal(rotations[1], rotations[2])
    assert same == (signs != "random")  # drawn for each GEMM by itself


@pytest.mark.parametrize("signs", SIGNS)
def test_random_signs_are_fresh_at_every_step(signs: str) -> None:
    """Quantized results change from step to step with random signs and only with them; the same step repeats."""
    q = BlockQuantizer(block=16)
    x, w, g = operands(64, 64, 64)
    for gemm in GEMMS:
        recipe = Recipe(**{gemm: Gemm(q, q, Hadamard(32, signs))})
        at = GEMMS.index(gemm)
        first, again, later = (run(recipe, x, w, g, step)[at] for step in (3, 3, 4))
        assert torch.equal(first, again)
        assert torch.equal(first, later) == (signs != "random")


def test_a_rotation_spreads_an_outlier_before_quantization() -> None:
    """Why it is there: one large element no longer takes its block's resolution."""
    x, w, _ = operands(64, 64, 64)
    x[:, ::32] *= 100
    q = BlockQuantizer(block=32)
    plain = Gemm(q, Identity())
    exact, key = x @ w.mT, Key(torch.tensor([0, 0]))
    error = [(gemm(x, w, key) - exact).norm() for gemm in (plain, replace(plain, rotation=Hadamard(32)))]
    assert error[1] < 0.9 * error[0]


@pytest.mark.parametrize("name", ["mxfp4", "tseng_mxfp4"])
def test_signs_behind_a_transform_change_no_product(name: str) -> None:
    """As in Quartet's release: nearest and stochastic E2M1 are odd, so signs of both operands' columns cancel."""
    q, key = RECIPES[name].dgrad.lhs, Key(torch.tensor([5, 1]), 2, 2)
    turn = Hadamard(32, "none")
    x, w, _ = operands(37, 96, 19, torch.float32)
    x, w = (turn.turn(t, turn.basis(t, None)) for t in (x, w))
    signs = 1 - 2 * torch.randint(0, 2, (96,), generator=torch.Generator().manual_seed(3)).float()
    for operand in (x, w):
        assert torch.equal(q(operand * signs, key).values, q(operand, key).values * signs)
