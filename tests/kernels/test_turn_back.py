"""The inverse rotation under Triton's interpreter: ``Gemm.back``'s bits, with different rotations in a stack."""

from __future__ import annotations

import pytest

from tests.interpreted import interpreted

pytest.importorskip("triton")

PROGRAM = """
from dataclasses import replace
import torch
from dse.fused import Use, table, turn_back
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Identity
from dse.numerics.random import Key
from dse.numerics.techniques.rotations import Hadamard
from tests.kernels.cases import clock, same

rotations = [None, Hadamard(2), Hadamard(16, "fixed"), Hadamard(64, "none"), Hadamard(128), Hadamard(8)]
rows = table([Use(Identity(), rotation) for rotation in rotations], "cpu")
columns, key = 150, Key(clock(6), 3, 1)
x = torch.randn(6, 21, rows.padded(columns), generator=torch.Generator().manual_seed(0))
x[:, 2, 5], x[:, 3], x[:, 4, 7] = -0.0, 0.0, torch.inf
for source, dtype in ((x, torch.float32), (x.bfloat16(), torch.float32), (x.mT.contiguous().mT, torch.bfloat16)):
    found = turn_back(source, rows, key, columns, dtype)
    for i, rotation in enumerate(rotations):
        gemm, width = Gemm(rotation=rotation), columns + (-columns % rotation.size if rotation else 0)
        turned = source[i].float()[:, :width]
        basis = gemm.basis(turned, replace(key, clock=key.clock[i]).at(0))
        wanted = gemm.back(turned, basis)[:, :columns].to(dtype)
        assert same(found[i].float(), wanted.float()), (rotation, dtype)
"""


def test_it_gives_the_references_bits() -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    interpreted("-c", PROGRAM)
