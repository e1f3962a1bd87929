"""The general kernels of blocks under Triton's interpreter: the reference's bits, a few members of every structure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from dataclasses import replace
from dse.fused import quantize, table
from dse.numerics.random import Key
from tests.kernels.cases import clock, differences, general_options, operands, reference, structures

from dse.fused import block_launch, long_launch

most, rows, columns, kinds, pieces = {most}, {rows}, {columns}, {kinds!r}, {pieces}
if pieces:  # no program holds a block
    block_launch.LARGEST_WHOLE, long_launch._ELEMENTS, long_launch._FOLD = 4, pieces, 4
for program, uses in structures(general_options()).items():
    assert program != "", uses
    if pieces and not any(word in program for word in ("tile 0, block 0", "outer 3", "max of 6")):
        continue
    uses = uses[:: max(1, len(uses) // most)]
    names, own = [n for n, _ in uses], [u for _, u in uses]
    t, given = table(own, "cpu"), dict(operands(len(own), rows, columns))
    for kind in kinds:
        x = given[kind]
        start = torch.tensor([0.0, 3.0, torch.nan]).repeat(len(own))[: len(own), None].expand(-1, 6).clone()
        found, wanted = [Key(clock(len(own)), 3, 2, 0, start.clone()) for _ in range(2)]
        expected = reference(x, own, wanted)
        bad = differences(quantize(x, t, found, torch.float32), expected)
        turned = replace(found, memory=start.clone())
        bad += differences(quantize(x.mT.contiguous().mT, t, turned, torch.float32), expected)
        assert not bad, (program, kind, [(names[i], line) for i, line in bad])
        for name, mine, theirs in zip(names, found.memory, wanted.memory):
            assert torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1)), (name, mine, theirs)
print("done")
"""


@pytest.mark.parametrize(
    ("most", "rows", "columns", "kinds", "pieces"),
    [
        (1, 9, 34, ["special"], 0),
        (1, 5, 19, ["special"], 64),
        pytest.param(50, 20, 50, ["special", "ties", "infinite"], 0, marks=pytest.mark.slow),
        pytest.param(50, 20, 50, ["special"], 64, marks=pytest.mark.slow),
    ],
    ids=["one of a structure", "in pieces", "all", "all in pieces"],
)
def test_kernels_give_the_references_bits(most: int, rows: int, columns: int, kinds: list[str], pieces: int) -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    pytest.importorskip("triton")
    program = PROGRAM.format(most=most, rows=rows, columns=columns, kinds=kinds, pieces=pieces)
    root = Path(__file__).parents[2]
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=root, env=env, capture_output=True, text=True,
        encoding="utf-8",
    )  # fmt: skip
    assert run.stdout.strip() == "done", run.stderr[-3000:]
