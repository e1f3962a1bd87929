"""MicroScopiQ's outliers and pruned weights against a NumPy search a micro-block at a time, and the bits they take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dse import RECIPES, Recipe, override, quantize_post
from dse.cost.shapes import LayerShape
from dse.cost.storage import weight_bits
from dse.errors import CalibrationError, OptionError
from dse.numerics.input_statistics import InputStatistics
from dse.numerics.random import Key
from dse.numerics.stored_bits import stored_bits
from dse.numerics.techniques.branches import SvdQuant
from dse.numerics.techniques.post import Gptq, Rtn
from dse.numerics.techniques.scale_searches import MicroScopiQ
from dse.post.layers import PostQuantizedLinear
from tests.post import reference
from tests.post.test_methods import layer, same

KEY = Key(torch.tensor([0, 0]))
INT4, INT2 = (np.arange(8.0), reference.E4M3), (np.arange(2.0), reference.E2M1)


def recipe(bits: int = 4, block: int = 32) -> Recipe:
    """MXINT4 or MXINT2 under OCP's floor rule; activations as they are."""
    element, constant = ("int4", 4) if bits == 4 else ({"values": [0, 1]}, 1)
    own = {"element": element, "scale": "e8m0", "block": block, "constant": constant, "scale_rounding": "toward_zero"}
    return override(RECIPES["bf16"], "fprop.rhs", {"block": own})


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("sigmas", [0.7, 3.0])
def test_outliers_pruned_weights_and_their_bits(bits: int, sigmas: float) -> None:
    w, x = layer(1, n=9, k=150)
    wide, rows = w.double().numpy(), x.double().numpy()
    grids, tops = (INT4, (2, 8)) if bits == 4 else (INT2, (0, 2))
    kinds, count = reference.microscopiq(wide, rows, 32, sigmas, 8, tops, 0.01)
    assert (kinds[..., 1] == 1).sum() == (kinds[..., 1] == 2).sum() > 9
    quantizer, search, inputs = recipe(bits).fprop.rhs, MicroScopiQ(sigmas), InputStatistics.of(x)
    made = Rtn(scales=search).make(recipe(bits).fprop, w, inputs, KEY)
    found = made.weight.dequantize().double().numpy()
    same(found, reference.microscopiq_rounded(wide, kinds, grids))
    assert made.bits == 9 * 19 + count * (8 + 4 * 2 * 3)
    for ordered in (False, True):
        method = Gptq(scales=search, order="static" if ordered else "none")
        found = method.quantize(quantizer, w, inputs, KEY).dequantize().double().numpy()
        expected = reference.gptq(
            wide, rows, kinds, 0.01, ordered, lambda v, kind: reference.microscopiq_rounded(v, kind, grids)
        )
        same(found, expected)


def test_at_most_half_of_a_micro_block() -> None:
    w, x = layer(2, n=4, k=22)
    quantizer = recipe().fprop.rhs
    scales = MicroScopiQ(0.1).scales(quantizer, w, InputStatistics.of(x))  # type: ignore[arg-type]
    outliers, pruned = (part.split(8, 1) for part in (scales.chosen == 1, scales.decode == 0))
    for most, one, other in zip((4, 4, 3), outliers, pruned, strict=True):
        assert (one.sum(1) == other.sum(1)).all()
        assert one.sum(1).max() == most
    assert not (scales.decode == 0).logical_and(scales.chosen == 1).any()


def test_in_a_model_and_its_bits() -> None:
    """A tail of outliers hurts MXINT4 more than the pruned weights, and a branch's rest is what is counted."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(128, 32, bias=False)), torch.randn(300, 128)
    model[0].weight.data.normal_().pow_(3)
    own, method = recipe(block=128), {"gptq": {"scales": "microscopiq", "order": "none"}}
    exact, losses = model(x).detach(), {}
    for name, how in {"whole": method, "plain": "gptq"}.items():
        made = quantize_post(model, how, [x], own)  # type: ignore[arg-type]
        losses[name] = float((made(x) - exact).norm())
    assert losses["whole"] < 0.8 * losses["plain"]
    made = quantize_post(model, method, [x], own)
    inner = made[0]
    assert isinstance(inner, PostQuantizedLinear)
    w, inputs = model[0].weight.detach(), InputStatistics.of(x)
    _, count = reference.microscopiq(w.double().numpy(), x.double().numpy(), 128, 3.0, 8, (2, 8), 0.01)
    assert stored_bits(inner.gemm.rhs, 32, 128) + inner.beside / (32 * 128) == 4 + (8 + 16) / 128 + count * 32 / 4096
    branch = Gptq(scales=MicroScopiQ(), branch=SvdQuant(4)).make(own.fprop, w, inputs, KEY)
    assert branch.low_rank is not None
    rest = w - branch.low_rank.whole(w)
    assert branch.bits == Gptq(scales=MicroScopiQ()).make(own.fprop, rest, inputs, KEY).bits != inner.beside


def test_bits_of_normal_weights() -> None:
    """Of a shape alone, as the cost model has it; with 1 % outliers, and no bit to tell, the paper's 2.36."""
    torch.manual_seed(0)
    own, shape = recipe(2, 128), LayerShape("layer", 1, 1024, 1024)
    bits = weight_bits(override(own, "post", {"gptq": {"scales": "microscopiq"}}), [shape])
    quantizer, search = own.fprop.rhs, MicroScopiQ()
    drawn = search.stored(quantizer, torch.randn(1024, 1024)) / 2**20  # type: ignore[arg-type]
    assert bits == pytest.approx(2 + 8 / 128 + drawn, abs=0.01)
    one_in_100 = 1 - 0.99**8
    assert 2 + 8 / 128 + one_in_100 * 32 / 8 == pytest.approx(2.36, abs=0.02)


def test_what_it_needs() -> None:
    own, method = recipe(), {"gptq": {"scales": "microscopiq"}}

    def with_options(**options: object) -> dict[str, object]:
        return {"gptq": {"scales": {"microscopiq": options}}}

    for how, which, text in (
        (method, override(own, "fprop.rhs.element", "e2m3"), "twice the bits of fprop.rhs.element, 12, and .* is none"),
        (with_options(outliers="e2m1"), own, "twice the bits of fprop.rhs.element, 8, and .* is e2m1"),
        (method, override(own, "fprop.rhs.block", 20), "whole micro-blocks; fprop.rhs.block is 20"),
        (method, override(own, "fprop.rhs.tile", 4), "leave fprop.rhs.tile at its default"),
        ({"adaround": {"scales": "microscopiq"}}, own, "adaround rounds to one format's grid"),
        (with_options(sigmas=0), own, "microscopiq.sigmas must be positive"),
        (with_options(micro=6), own, "microscopiq.micro must be a power of two"),
        (with_options(damping=-1), own, "microscopiq.damping must be at least 0"),
    ):
        with pytest.raises(OptionError, match=text):
            quantize_post(nn.Sequential(nn.Linear(4, 4)), how, [torch.ones(8, 4)], which)  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match=r"microscopiq: .* damping 0; set a larger post\.scales\.damping"):
        quantize_post(nn.Sequential(nn.Linear(4, 4)), with_options(damping=0), [torch.ones(8, 4)], own)  # type: ignore[arg-type]
