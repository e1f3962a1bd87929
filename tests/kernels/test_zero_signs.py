"""A rotation of zeros keeps their signs in the kernels, within groups of 16 and across them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted

ROOT = Path(__file__).parents[2]
SCRIPT = """
import torch
from dse.numerics.gemm import Gemm
from dse.fused import Use, quantize, table
from dse.numerics.quantizer import Identity
from dse.numerics.random import Key
from dse.numerics.techniques.rotations import Hadamard

x = torch.zeros(1, 8, 128)
x[0, ::2] *= -1
x[0, 1, ::3] = -0.0
for size in (16, 32, 64):
    for signs in ("none", "random"):
        rotation, key = Hadamard(size, signs), Key(torch.tensor([[1, 2]]), 1, 0)
        gemm = Gemm(Identity(), Identity(), rotation)
        found = quantize(x, table([Use(Identity(), rotation)], torch.device("cpu")), key, torch.float32).values
        wanted = gemm.turn(x, gemm.basis(x, key)).contiguous()
        assert torch.equal(found.view(torch.int32), wanted.view(torch.int32)), (size, signs)
print("done")
"""


def test_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    assert interpreted("-c", SCRIPT) == "done"
