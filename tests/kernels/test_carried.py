"""How operands reach their products: claims about significant bits against decoded values, and recipes' products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dse.fused.carried import SMALLEST_GROUP, Carried, KeptScale, carried, keepable, products, significant_bits
from dse.fused.checked import all_kernels
from dse.fused.support import Use
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, FP32
from dse.numerics.quantizer import Identity
from dse.numerics.random import Key
from dse.pack import backend
from dse.recipes import RECIPES
from tests.kernels.cases import clock, general_options, kept_options, options, recipes, reference

PRODUCTS = {
    **dict.fromkeys(("nvfp4", "if4", "tetrajet2", "mxfp4_macro128", "zhou_modulewise", "zhou_modulewise_fp8"), 1),
    **dict.fromkeys(("per_token_nvfp4", "per_token_nvfp4_backward", "ufp4", "graphcore_ue5m3", "graphcore_e4m3"), 1),
    "wang_fp4": 3,
}
"""BF16 products of each GEMM of a recipe."""


@pytest.fixture(autouse=True)
def compared_on_a_gpu() -> object:
    with all_kernels():
        yield


def bits(values: torch.Tensor) -> int:
    """Of the longest significand among normal numbers, by their integers."""
    x = values[values.abs() >= 2.0**-100].double().numpy()
    whole = (np.frexp(np.abs(x))[0] * 2**24).astype(np.int64)
    return max((24 - int(n & -n).bit_length() + 1 for n in whole), default=0)


def test_no_decoded_value_is_longer_than_its_formats_say() -> None:
    print("seed 0")
    x = torch.randn(1, 32, 136, generator=torch.Generator().manual_seed(0))
    short = 0
    for name, use in (*options(), *general_options(), *recipes(), *kept_options()):
        if (claim := significant_bits(use)) < 24:
            (found,) = reference(x, [use], Key(clock(1), 3, 2))
            assert bits(found.values) <= claim, name
            short += 1
    assert short > 50


def test_products_of_recipes() -> None:
    for name, count in PRODUCTS.items():
        for own in RECIPES[name].numerics:
            if backend.backend(own, True) is not None:
                found = backend.carried(own)
                assert [products((found[i], found[i + 1])) for i in (0, 2, 4)] == [count] * 3, name


def test_scales_stay_out_where_both_operands_allow_it() -> None:
    def use(block: int) -> Use:
        return Use(BlockQuantizer(E2M1, FP32, block), None)

    long, row, exact = (True, True), KeptScale("block", 0), Use(BlockQuantizer(), None)
    assert carried(use(64), use(128), long) == tuple(Carried("bf16", KeptScale("block", n)) for n in (64, 128))
    assert carried(use(0), exact, long) == (Carried("bf16", row), Carried("bf16"))
    assert carried(use(0), use(16), long) == (Carried("bf16", row), Carried("bf16", KeptScale("block", 16)))
    assert carried(use(0), use(8), long) == (Carried("bf16", row), Carried("float32"))
    assert carried(use(128), exact, (False, True)) == (Carried("float32"), Carried("bf16"))
    assert carried(Use(Identity(), None), exact, long) == (Carried("float32"), Carried("bf16"))
    assert keepable(use(SMALLEST_GROUP // 2)) is None
    assert all(keepable(one) for _, one in kept_options())
    assert carried(use(96), use(128), long) == tuple(Carried("bf16", KeptScale("block", n)) for n in (96, 128))
