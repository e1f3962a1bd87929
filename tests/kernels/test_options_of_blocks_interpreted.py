"""Corrections, grids and micro-exponents under Triton's interpreter: the reference's bits for each structure."""

from __future__ import annotations

import pytest

from tests.kernels.test_blocks_interpreted import run

PROGRAM = """
import torch
torch.set_num_threads(1)
from dse.fused import block_launch, long_launch, quantize, quantize_both, table
from dse.numerics.random import Key
from tests.kernels import cases
from tests.kernels.cases import clock, differences, operands, reference, structures

most, pieces, kinds = {most}, {pieces}, {kinds!r}
if pieces:  # no program holds a block
    block_launch.LARGEST_WHOLE, long_launch._ELEMENTS, long_launch._FOLD = 4, pieces, 4
for which, word, rows, columns in {options!r}:
    found = structures(getattr(cases, which)())
    assert "" not in found, found[""]
    chosen = [program for program in found if word in program]
    assert chosen, word
    for program in chosen:
        names, own = zip(*found[program][-most:])
        t, given = table(own, "cpu"), dict(operands(len(own), rows, columns))
        for kind in kinds:
            x, key = given[kind], Key(clock(len(own)), 3, 2)
            bad = differences(quantize(x, t, key, torch.float32), reference(x, own, key))
            if most > 1:
                first, second = quantize_both(x, t, key, t, key.at(5), torch.float32)
                bad += differences(first, reference(x, own, key)) + differences(second, reference(x.mT, own, key.at(5)))
            assert not bad, (program, kind, [(names[i], line) for i, line in bad])
print("done")
"""
LISTS = "statistic absmax, choice mse of 3, elements of lists"
WHOLE = [
    ("corrected_options", "tile 4", 5, 70),
    ("corrected_options", "block 16, statistic absmax, choice mae", 3, 70),
    ("grid_options", f"tile 1, block 16, {LISTS}", 4, 34),
    ("micro_options", "tile 1, block 64, statistic absmax, micro-exponents (8, 4)", 4, 70),
    ("micro_options", "tile 4, block 24", 4, 34),
]
IN_PIECES = [
    ("corrected_options", "block 0, statistic absmax, choice mae", 3, 19),
    ("corrected_options", "tile 1, block 24, statistic absmax, correction Eden(group=72", 20, 70),  # sums in FP64
    ("grid_options", f"tile 1, block 0, {LISTS}", 3, 19),
]
ALL = [(which, "tile", 20, 70) for which in ("corrected_options", "grid_options", "micro_options")]


@pytest.mark.parametrize(
    ("options", "most", "kinds", "pieces"),
    [
        (WHOLE, 1, ["special"], 0),
        (IN_PIECES, 1, ["special"], 64),
        pytest.param(ALL, 50, ["special", "ties", "infinite"], 0, marks=pytest.mark.slow),
        pytest.param(ALL[:2], 50, ["special"], 64, marks=pytest.mark.slow),
    ],
    ids=["some", "some in pieces", "all", "all in pieces"],
)
def test_kernels_give_the_references_bits(
    options: list[tuple[str, str, int, int]], most: int, kinds: list[str], pieces: int
) -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    pytest.importorskip("triton")
    run(PROGRAM.format(options=options, most=most, kinds=kinds, pieces=pieces))
