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
from dse.kernels import exact_in_bf16, quantize, quantize_both, table
from dse.kernels.launch import Shape
from dse.random import Key
from tests.kernels.cases import clock, differences, operands, options, reference
known = dict(options())
names = {names!r}
uses = [known[n] for n in names]
t = table(uses, "cpu")
small = Shape(64, 4, 64, 32, 1, {store})
kinds = dict(operands(len(uses), {rows}, {columns}))
for kind in {kinds!r}:
    x = kinds[kind]
    keys = [Key(clock(len(uses)), 3, p) for p in (2, 5)]
    first, second = quantize_both(x, t, keys[0], t, keys[1], {dtype}, small)
    bad = differences(first, reference(x, uses, keys[0])) + differences(second, reference(x.mT, uses, keys[1]))
    assert not bad, (kind, [(names[i], line) for i, line in bad])
"""


@pytest.mark.parametrize(
    ("names", "rows", "columns", "kinds", "dtype", "store"),
    [
        (["element=e2m1", "stochastic 7", "rounding=nearest_away"], 20, 34, ["special"], "torch.float32", 8),
        (["element=int8", "block=32 tile=2", "bf16"], 18, 48, ["bf16"], "torch.float32", 8),
        (["hadamard 32 random", "identity", "decode one quantized Current(target=448.0, through='ignore')"], 20, 40,
         ["special"], "torch.float32", 8),
        (["decode flush unquantized None", "encode one unquantized True None", "encode smallest quantized False None"],
         18, 34, ["special"], "torch.float32", 8),
        (["scale=e8m0", "stochastic 3"], 20, 34, ["normal"], "torch.bfloat16", 16),
    ],
    ids=["roundings", "blocks", "rotations", "infinite blocks", "bf16"],
)  # fmt: skip
def test_kernels_give_the_references_bits(
    names: list[str], rows: int, columns: int, kinds: list[str], dtype: str, store: int
) -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    program = PROGRAM.format(names=names, rows=rows, columns=columns, kinds=kinds, dtype=dtype, store=store)
    root = Path(__file__).parents[2]
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=root, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
