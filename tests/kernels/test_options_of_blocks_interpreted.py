"""Corrections, grids and micro-exponents under Triton's interpreter: the reference's bits for each structure."""

from __future__ import annotations

import pytest

from tests.kernels.test_blocks_interpreted import run

PROGRAM = """
import torch
torch.set_num_threads(1)
from dataclasses import replace
from dse.fused import block_launch, long_launch, quantize, quantize_both, table
from dse.numerics.random import Key
from tests.kernels.cases import {which}, clock, differences, operands, reference, structures

most, pieces, words, kinds = {most}, {pieces}, {words!r}, {kinds!r}
if pieces:  # no program holds a block
    block_launch.LARGEST_WHOLE, long_launch._ELEMENTS, long_launch._FOLD = 4, pieces, 4
checked = 0
for program, uses in structures({which}()).items():
    assert program != "", uses
    if not any(word in program for word in words):
        continue
    names, own = zip(*uses[-most:])
    t, given = table(own, "cpu"), dict(operands(len(own), {rows}, {columns}))
    for kind in kinds:
        x, checked = given[kind], checked + 1
        key = Key(clock(len(own)), 3, 2)
        bad = differences(quantize(x, t, key, torch.float32), reference(x, own, key))
        if most > 1:
            first, second = quantize_both(x, t, key, t, key.at(5), torch.float32)
            bad += differences(first, reference(x, own, key)) + differences(second, reference(x.mT, own, key.at(5)))
        assert not bad, (program, kind, [(names[i], line) for i, line in bad])
assert checked, words
print("done")
"""
LISTS = "statistic absmax, choice mse of 3, elements of lists"


@pytest.mark.parametrize(
    ("which", "most", "rows", "columns", "kinds", "pieces", "words"),
    [
        ("corrected_options", 1, 5, 70, ["special"], 0, ["tile 4", "block 16, statistic absmax, choice mae"]),
        ("corrected_options", 1, 3, 19, ["special"], 64, ["block 0, statistic absmax, choice mae"]),
        ("grid_options", 1, 4, 34, ["special"], 0, [f"tile 1, block 16, {LISTS}"]),
        ("grid_options", 1, 3, 19, ["special"], 64, [f"tile 1, block 0, {LISTS}"]),
        ("micro_options", 1, 4, 70, ["special"], 0, ["tile 1, block 64, statistic absmax, micro-exponents (8, 4)"]),
        ("micro_options", 1, 4, 34, ["special"], 0, ["tile 4, block 24"]),
        *(
            pytest.param(which, 50, 20, 50, kinds, pieces, ["tile"], marks=pytest.mark.slow)
            for which in ("corrected_options", "grid_options")
            for kinds, pieces in ((["special", "ties", "infinite"], 0), (["special"], 64))
        ),
        pytest.param("micro_options", 50, 20, 70, ["special", "ties", "infinite"], 0, ["tile"], marks=pytest.mark.slow),
    ],
)
def test_kernels_give_the_references_bits(
    which: str, most: int, rows: int, columns: int, kinds: list[str], pieces: int, words: list[str]
) -> None:
    pytest.importorskip("triton")
    run(PROGRAM.format(which=which, most=most, rows=rows, columns=columns, kinds=kinds, pieces=pieces, words=words))
