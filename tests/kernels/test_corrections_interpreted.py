"""Corrected scales by kernels under Triton's interpreter: the reference's bits, a few members of every structure."""

from __future__ import annotations

import pytest

from tests.kernels.test_blocks_interpreted import run

PROGRAM = """
import torch
torch.set_num_threads(1)
from dataclasses import replace
from dse.fused import block_launch, long_launch, quantize_both, table
from dse.numerics.random import Key
from tests.kernels.cases import clock, corrected_options, differences, operands, reference, structures

most, pieces, words, kinds = {most}, {pieces}, {words!r}, {kinds!r}
if pieces:  # no program holds a block
    block_launch.LARGEST_WHOLE, long_launch._ELEMENTS, long_launch._FOLD = 4, pieces, 4
checked = 0
for program, uses in structures(corrected_options()).items():
    assert program != "", uses
    if not any(word in program for word in words):
        continue
    names, own = zip(*uses[-most:])
    t, given = table(own, "cpu"), dict(operands(len(own), {rows}, {columns}))
    for kind in kinds:
        x, checked = given[kind], checked + 1
        key = Key(clock(len(own)), 3, 2)
        first, second = quantize_both(x, t, key, t, key.at(5), torch.float32)
        bad = differences(first, reference(x, own, key))
        bad += differences(second, reference(x.mT, own, key.at(5))) if most > 2 else []
        assert not bad, (program, kind, [(names[i], line) for i, line in bad])
assert checked, words
print("done")
"""
SOME = ["block 16, statistic absmax, correction Eden(group=128", "tile 4", "block 16, statistic absmax, choice mae"]


@pytest.mark.parametrize(
    ("most", "rows", "columns", "kinds", "pieces", "words"),
    [
        (2, 5, 50, ["special"], 0, SOME),
        (2, 3, 19, ["special"], 64, ["block 0, statistic absmax, choice mae"]),
        pytest.param(50, 20, 50, ["special", "ties", "infinite"], 0, ["tile"], marks=pytest.mark.slow),
        pytest.param(50, 20, 50, ["special"], 64, ["tile"], marks=pytest.mark.slow),
    ],
    ids=["some", "in pieces", "all", "all in pieces"],
)
def test_kernels_give_the_references_bits(
    most: int, rows: int, columns: int, kinds: list[str], pieces: int, words: list[str]
) -> None:
    pytest.importorskip("triton")
    run(PROGRAM.format(most=most, rows=rows, columns=columns, kinds=kinds, pieces=pieces, words=words))
