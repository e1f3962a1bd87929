"""The kernels under Triton's interpreter: the reference's bits without a GPU, on a few members and small tiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

PROGRAM = """
import torch
torch.set_num_threads(1)
from dse.fused import exact_in_bf16, quantize, quantize_both, table
from dse.fused.launch import LaunchShape
from dse.numerics.random import Key
from tests.kernels.cases import clock, differences, operands, options, reference
known = dict(options())
names = {names!r}
uses = [known[n] for n in names]
t = table(uses, "cpu")
small = LaunchShape(64, 4, 64, 32, 1, {store})
kinds = dict(operands(len(uses), {rows}, {columns}))
for kind in {kinds!r}:
    x = kinds[kind]
    held = torch.tensor({held!r}, dtype=torch.float32)
    start = held.repeat(len(uses))[: len(uses), None].expand(-1, 6).clone() if len(held) else None
    for sampling in (True, False) if len(held) else (True,):
        memories = [start, start] if start is None else [start.clone(), start.clone()]
        found, wanted = ([Key(clock(len(uses)), 3, p, 0, memory, sampling) for p in (2, 5)] for memory in memories)
        first, second = quantize_both(x, t, found[0], t, found[1], {dtype}, small)
        bad = differences(first, reference(x, uses, wanted[0])) + differences(second, reference(x.mT, uses, wanted[1]))
        assert not bad, (kind, [(names[i], line) for i, line in bad])
        for name, use, mine, theirs in zip(names, uses, *(memories if len(held) else ([], []))):
            if use.quantizer.remembers:
                assert torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1)), (name, sampling, mine, theirs)
"""


@pytest.mark.parametrize(
    ("names", "rows", "columns", "kinds", "dtype", "store", "held"),
    [
        (["element=e2m1", "stochastic 7", "rounding=nearest_away"], 20, 34, ["special"], "torch.float32", 8, []),
        (["element=int8", "block=32 tile=2", "bf16"], 18, 48, ["bf16"], "torch.float32", 8, []),
        (["hadamard 32 random", "identity", "decode one quantized Current(target=448.0, through='ignore')"], 20, 40,
         ["special"], "torch.float32", 8, []),
        (["decode flush unquantized None", "encode one unquantized True None", "encode smallest quantized False None"],
         18, 34, ["special"], "torch.float32", 8, []),
        (["scale=e8m0", "stochastic 3"], 20, 34, ["normal"], "torch.bfloat16", 16, []),
        (["scale=e8m0", "scale=ue5m3", "encode one quantized False None", "scale=ue4m3 tensor", "scale=ue4m3 tensor",
          "encode smallest quantized True Current(target=None, through='ignore')"], 6, 20, ["infinite"],
         "torch.float32", 8, []),
        (["delayed"] * 6, 5, 18, ["infinite"], "torch.float32", 8, [0.0, 3.0, float("nan"), float("inf")]),
    ],
    ids=["roundings", "blocks", "rotations", "infinite blocks", "bf16", "infinities", "held scales"],
)  # fmt: skip
def test_kernels_give_the_references_bits(
    names: list[str], rows: int, columns: int, kinds: list[str], dtype: str, store: int, held: list[float]
) -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    program = PROGRAM.format(names=names, rows=rows, columns=columns, kinds=kinds, dtype=dtype, store=store, held=held)
    program = "from math import inf, nan\n" + program
    root = Path(__file__).parents[2]
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr[-3000:]
