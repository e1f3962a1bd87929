"""A trace has the bits of the quantization that it takes apart, and its parts multiply to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.quantizer import Quantized
from dse.numerics.random import key
from dse.numerics.recipe import POINTS
from dse.numerics.techniques.choices import IF4, Choice, FourOverSix, ScaleSweep
from dse.numerics.techniques.outliers import Asymmetric, Clamp
from dse.numerics.techniques.rounding import Stochastic
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes import RECIPES
from tests.quantizers import normal

NVFP4 = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
CHOICES: dict[str, Choice | None] = {
    "none": None,
    "four over six": FourOverSix(),
    "if4": IF4(),
    "scale sweep": ScaleSweep(error="mae"),
}


def equal(a: Quantized, b: Quantized) -> bool:
    same = torch.equal(a.values, b.values)
    return same and (torch.equal(a.alpha, b.alpha) if a.alpha is not None and b.alpha is not None else a[1] is b[1])


def test_the_quantized_operand_of_every_recipe() -> None:
    x, seen = normal(20, 37), 0
    for recipe in RECIPES.values():
        for point in POINTS:
            quantizer = recipe.quantizer(point)
            if isinstance(quantizer, BlockQuantizer):
                seen += 1
                assert equal(quantizer.trace(x, key(7)).quantized, quantizer(x, key(7))), (recipe.name, point)
    assert seen > 100


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("gain", [1.0, 0.75])
@pytest.mark.parametrize("tile", [1, 4])
def test_parts_make_the_values(choice: Choice | None, gain: float, tile: int) -> None:
    """Each block has the parts of the candidate that was chosen for it, and these are not all the same one's."""
    quantizer = replace(NVFP4, choice=choice, gain=gain, tile=tile, rounding=Stochastic())
    x = normal(10, 53) * normal(10, 53, seed=1).exp()
    trace = quantizer.trace(x, key(3))
    assert trace.split is None
    assert trace.level is not None
    assert torch.equal(trace.matrix(trace.blocks), x)
    assert torch.equal(trace.statistic, trace.blocks.abs().amax((-3, -1), keepdim=True))
    gains = torch.tensor([1 / candidate.gain for candidate in trace.candidates])[trace.chosen]
    multiples = torch.tensor([candidate.multiple for candidate in trace.candidates])[trace.chosen]
    assert torch.equal(trace.elements * trace.factors.decode * multiples, trace.values)
    assert torch.equal(trace.matrix(trace.values), trace.quantized.values)
    scaled = trace.blocks * (trace.factors.encode * gain) / gains
    torch.testing.assert_close(trace.scaled, scaled, rtol=2**-22, atol=0)
    assert len(trace.chosen.unique()) > (choice is not None)
    for number in range(len(trace.candidates)):
        alone = quantizer.trace(x, key(3), candidate=number)
        assert len(alone.candidates) == 1
        own = trace.chosen == number
        inside = own.expand_as(trace.blocks)
        for part in ("scaled", "elements", "values"):
            assert torch.equal(getattr(alone, part)[inside], getattr(trace, part)[inside])
        for factor in ("encode", "decode"):
            assert torch.equal(getattr(alone.factors, factor)[own], getattr(trace.factors, factor)[own])


def error(trace_values: Tensor, alpha: Tensor, blocks: Tensor) -> Tensor:
    return (trace_values.double() * alpha.double() - blocks.double()).square().sum((-3, -1), keepdim=True)


def test_the_chosen_candidate_has_the_smallest_error() -> None:
    quantizer = replace(NVFP4, choice=FourOverSix())
    x = normal(16, 256)
    trace = quantizer.trace(x)
    assert trace.factors.alpha is not None
    every = [quantizer.trace(x, candidate=number).values for number in range(2)]
    errors = torch.stack([error(values, trace.factors.alpha, trace.blocks) for values in every])
    clear = (errors[0] - errors[1]).abs() > 1e-9 * errors[0]
    assert clear.float().mean() > 0.9
    assert torch.equal(errors.argmin(0)[clear], trace.chosen[clear])


def test_outliers_are_split_off_before() -> None:
    x = normal(8, 64)
    for outliers in (Clamp(0.9), Clamp(0.9, compensate=False), Asymmetric()):
        quantizer = replace(NVFP4, outliers=outliers)
        trace, expected = quantizer.trace(x), outliers.split(x)
        assert trace.split is not None
        assert torch.equal(trace.matrix(trace.blocks), expected.quantized[0])
        assert equal(trace.quantized, quantizer(x))
        inner = replace(quantizer, outliers=None)
        assert torch.equal(trace.matrix(trace.values), inner(expected.quantized[0]).values)


def test_a_held_tensor_scale_is_sampled_once() -> None:
    """A trace changes the memory exactly as quantizing does."""
    quantizer = next(q for r in RECIPES.values() for p in POINTS if (q := r.quantizer(p)).remembers)
    assert isinstance(quantizer, BlockQuantizer)
    memories = [torch.zeros(6), torch.zeros(6)]
    for step in range(3):
        x = normal(8, 64, seed=step) * (step + 1)
        one, two = (replace(key(1, step), memory=memory) for memory in memories)
        assert equal(quantizer.trace(x, one).quantized, quantizer(x, two))
    assert memories[0].any()
    assert torch.equal(*memories)
