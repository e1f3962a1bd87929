"""The plain-torch reference gives the same bits on a GPU as on the CPU. Also a script: python tests/gpu/test_...py"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key
from dse.numerics.recipe import POINTS
from dse.numerics.registry import FAMILIES
from dse.numerics.techniques.rounding import Rounding
from dse.recipes import RECIPES

try:
    import pytest

    pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass

INEXACT = {"soft_soft", "quest", "clamp"}
"""Statistics with exp, sums or quantiles, whose last bit depends on the device's order of summation."""


def operands(seed: int = 0) -> dict[str, Tensor]:
    """Random, tiny, huge, tied and special operands, [48, 80] float32."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(48, 80, generator=g)
    special = x.clone()
    special[0, :16], special[1, 3], special[2, 5], special[3, :40] = 0.0, torch.nan, torch.inf, 1e-42
    infinite = x.clone()
    infinite[2, 5], infinite[30, 70] = torch.inf, -torch.inf
    return {"normal": x, "tiny": x * 1e-6, "wide": x * (6 * torch.randn(48, 80, generator=g)).exp(), "special": special,
            "infinite": infinite,
            "ties": (x * 8).round() / 4}  # fmt: skip


def quantizers() -> Iterator[tuple[str, Quantizer]]:
    """One per format and technique that works on blocks, and every recipe's six."""
    base = BlockQuantizer(scale=SCALES["ue4m3"], block=16)
    for name, fmt in ELEMENTS.items():
        yield f"element={name}", replace(base, element=fmt)
    for name, fmt in SCALES.items():
        yield f"scale={name}", replace(base, scale=fmt)
    for field, family in (
        ("statistic", "Statistic"), ("convention", "Convention"), ("tensor_scale", "TensorScale"),
        ("outliers", "Outliers"), ("choice", "Choice"),
    ):  # fmt: skip
        registry = next(entries for kind, entries in FAMILIES.items() if kind.__name__ == family)
        for name, technique in registry.items():
            if name not in INEXACT:
                yield f"{field}={name}", replace(base, **{field: technique()})
    for name, technique in FAMILIES[Rounding].items():
        yield f"rounding={name}", replace(base, rounding=technique())
        yield f"scale_rounding={name}", replace(base, scale_rounding=technique())
    for recipe in RECIPES.values():
        for point in POINTS:
            q = recipe.quantizer(point)
            if not (
                isinstance(q, BlockQuantizer)
                and {type(q.statistic).__name__, type(q.outliers).__name__} & {"Quest", "Clamp"}
            ):
                yield f"{recipe.name} {point}", q


def mismatches(device: str) -> Iterator[str]:
    """One line for every quantizer and operand whose values or tensor scale differ in a bit between CPU and device."""
    for what, q in quantizers():
        for kind, x in operands().items():
            here = q(x, Key(torch.tensor([7, 11]), 3, 2))
            there = q(x.to(device), Key(torch.tensor([7, 11], device=device), 3, 2))
            for part, a, b in (("values", here.values, there.values), ("alpha", here.alpha, there.alpha)):
                if a is None or b is None:
                    same = a is b
                else:
                    same = torch.equal(a.nan_to_num(1e30), b.cpu().nan_to_num(1e30))
                if not same:
                    count = "" if a is None or b is None else f"{int((a != b.cpu()).sum())} of {a.numel()}"
                    yield f"{what} on {kind}: {part} differ {count}"


def test_same_bits_on_the_gpu() -> None:
    assert not list(mismatches("cuda"))


if __name__ == "__main__":
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = time.time()
    lines = list(mismatches(device))
    checked = len(list(quantizers())) * len(operands())
    print(
        *lines,
        f"{checked} quantizer x operand pairs on {device}: {len(lines)} mismatches, {time.time() - start:.0f} s",
        sep="\n",
    )
