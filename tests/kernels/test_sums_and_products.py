"""Products, norms and column sums of the kernels, in Triton's interpreter: right, and the same alone and in a stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, torch
from dse.optim.layout import Layout
from dse.kernels import column_sums, contract, norms
from dse.kernels import matmul
from dse.kernels.centered import centered
from dse.kernels.tree import tree_sum
from dse.numerics.tree import total as total_of

g = torch.Generator().manual_seed(4)
whole = sys.argv[1] == "whole"
cases = ((2, 33, 50, 70, False), (2, 64, 40, 2100, True), (3, 1, 20, 32, False), (1, 130, 1, 5, True))
for e, m, n, k, turned in cases:
    a, b = (torch.randn(e, r, k, generator=g) for r in (m, n))
    if turned:
        a, b = a.mT.contiguous().mT, b.mT.contiguous().mT
    alphas = [None, torch.rand(e, 1, 1, generator=g) + 0.5]
    for first in alphas if whole or k < 2000 else alphas[1:]:
        for second in alphas if whole or k < 2000 else alphas[1:]:
            y = contract(a, b, first, second)
            exact = a.double() @ b.double().mT
            for alpha in (first, second):
                exact = exact if alpha is None else exact * alpha
            bound = a.double().abs() @ b.double().abs().mT * 2  # alphas are below 1.5
            assert ((y - exact).abs() <= 2**-20 * bound + 1e-30).all()
            alone = [
                contract(*(None if t is None else t[i : i + 1] for t in (a, b, first, second)))
                for i in range(e)
            ]
            assert torch.equal(torch.cat(alone), y)
            most, matmul.MOST = matmul.MOST, 2  # more than one launch takes
            assert torch.equal(contract(a, b, first, second), y)
            matmul.MOST = most
            if first is None or second is None:
                continue
            bias = torch.randn(n, e, generator=g).mT
            biased = contract(a, b, first, second, bias)
            assert torch.equal(biased, y + bias[:, None])
            matmul.MOST = 2
            rounded = contract(a, b, first, second, bias, torch.bfloat16)
            matmul.MOST = most
            assert rounded.dtype == torch.bfloat16
            assert torch.equal(rounded, biased.bfloat16())
            c, d = a.bfloat16(), b.bfloat16()
            narrow = contract(c, d, first, second)
            exact = c.double() @ d.double().mT * first * second
            assert ((narrow - exact).abs() <= 2**-20 * bound + 1e-30).all()
            assert torch.equal(contract(c, d, first, second, bias, torch.bfloat16), (narrow + bias[:, None]).bfloat16())

ties = 1 + torch.arange(1, 512, 2) * 2.0**-9  # halfway between two BF16 numbers
zeros = torch.zeros(1, 3, 5)
y = contract(zeros, torch.zeros(1, len(ties), 5), bias=ties[None], dtype=torch.bfloat16)
assert torch.equal(y, ties.bfloat16().expand_as(y))
empty = contract(torch.zeros(1, 2, 0), torch.zeros(1, 3, 0), bias=ties[None, :3])
assert torch.equal(empty, ties[:3].expand(1, 2, 3))

layout = Layout.of((f"p{i}", torch.empty(s)) for i, s in enumerate(((130, 70), (5,), (3, 3), (1,), (64, 64))))
flat = torch.randn(3, layout.size, generator=g)
flat[1, 7] = torch.nan
found, expected = norms(flat, layout.spans()), layout.norms(flat)
torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, equal_nan=True)
assert torch.equal(norms(flat[2:], layout.spans()), found[2:])

for e, m, n in ((2, 33, 50), (3, 700, 65), (1, 1, 7), (2, 0, 3)):
    x = torch.randn(e, m, n, generator=g)
    total = column_sums(x)
    torch.testing.assert_close(total.double(), x.double().sum(1), rtol=1e-5, atol=1e-5)
    assert torch.equal(column_sums(x[:1]), total[:1])
    assert torch.equal(column_sums(x.mT.contiguous().mT), total)
    narrow = column_sums(x.bfloat16())
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow, column_sums(x.bfloat16().float()))

shapes = ((2, 3000, 5), -2), ((3, 7, 129), 1), ((2, 1, 4), -2), ((65, 33), 0), ((4, 3, 1025), -1), ((2, 70, 50), 1)
for shape, dim in shapes:
    x = torch.randn(shape, generator=g)
    x[x.abs() < 0.3] = -0.0
    found, expected = tree_sum(x, dim) + 0.0, total_of(x, (dim,))
    assert torch.equal(found, expected) and torch.equal(found.signbit(), expected.signbit()), (shape, dim)
    y = x.mT if x.dim() > 2 else x.T
    assert torch.equal(tree_sum(y, dim) + 0.0, total_of(y, (dim,)))
    z = x.bfloat16()
    assert torch.equal(tree_sum(z, dim) + 0.0, total_of(z, (dim,))) and total_of(z, (dim,)).dtype == torch.float32
    assert torch.equal(total_of(z, (dim,)), total_of(z.float(), (dim,)))

for shape in ((2, 33, 50), (3, 17, 129), (1, 1, 7)):
    x, row = torch.randn(shape, generator=g), torch.randn(shape[0], 1, shape[2], generator=g)
    row[:, :, 1], row[:, :, 2] = torch.inf, torch.nan
    for narrow in (x, x.bfloat16()):
        for y in (narrow, narrow.mT.contiguous().mT):
            found = centered(y, row)
            assert found.dtype == torch.float32 and torch.equal(found.nan_to_num(9), (y - row).nan_to_num(9))
    assert torch.equal(centered(x, x[:, :1]).signbit(), (x - x[:, :1]).signbit())
print("done")
"""


@pytest.mark.parametrize("much", ["part", pytest.param("whole", marks=pytest.mark.exhaustive)])
def test_in_the_interpreter(much: str) -> None:
    """``part``: of the longest products those alone that are scaled twice."""
    pytest.importorskip("triton")
    assert interpreted("-c", SCRIPT, much) == "done"
