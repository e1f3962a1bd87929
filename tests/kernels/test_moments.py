"""Sums over gradients and their noise in Triton's interpreter: the reference's bits, alone and in a stack."""

from __future__ import annotations

import pytest

from tests.interpreted import interpreted

SCRIPT = """
import torch
from dse.kernels import moments
from dse.numerics.tree import total

g = torch.Generator().manual_seed(3)
for e, m, n, short in ((2, 33, 50, False), (3, 130, 70, True), (1, 1, 1, False), (2, 0, 4, False)):
    dtype = torch.bfloat16 if short else torch.float32
    x = (torch.randn(e, m, n, generator=g) * torch.randn(e, m, n, generator=g).exp() + 0.3).to(dtype)
    values = x.bfloat16() * 1.5
    for alpha in (None, torch.rand(e, 1, 1, generator=g) + 0.5):
        found = moments(x, values, alpha)
        noise = values.float() * (1.0 if alpha is None else alpha) - x.float()
        wide, off = x.double().flatten(1), noise.double().flatten(1)
        if not n * m:
            assert not found.any()
            continue
        expected = torch.stack([total(t, (-1,)).squeeze(-1) for t in (wide, wide.square(), off.square())])
        assert torch.equal(found, expected), (found, expected)
        assert torch.equal(moments(x[:1], values[:1], None if alpha is None else alpha[:1]), found[:, :1])
print("done")
"""


def test_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    assert interpreted("-c", SCRIPT) == "done"
