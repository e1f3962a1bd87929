"""Softmax of masked scores by kernels, in Triton's interpreter, against torch's."""

from __future__ import annotations

import pytest

from tests.kernels.test_interpreted import run

pytest.importorskip("triton")

PROGRAM = """
import torch
from dse.kernels.softmax import attention_weights, softmax, softmax_gradient
g = torch.Generator().manual_seed(3)
for shape, causal in (((2, 3, 20, 20), True), ((3, 5, 33), False), ((2, 1, 1), True), ((1, 70, 70), True)):
    x, d = (torch.randn(shape, generator=g) * 4 for _ in range(2))
    leaf = x.clone().requires_grad_()
    wanted = attention_weights(leaf, 0.25, causal)
    found = softmax(x, 0.25, causal)
    assert (found - wanted.detach()).abs().max() < 3e-7
    assert not found[..., (torch.ones(shape[-2:]).triu(1) > 0) & causal].any()
    (dx,) = torch.autograd.grad(wanted, leaf, d)
    back = softmax_gradient(found, d, 0.25, causal)
    assert (back - dx).abs().max() < 2e-6 * dx.abs().max().clamp_min(1e-3), shape
    alone = softmax(x[:1], 0.25, causal)
    assert torch.equal(alone, found[:1])
    x[0, ..., 0, 0] = torch.nan
    assert softmax(x, 0.25, causal)[0].isnan().any()
"""


def test_softmax_and_its_gradient() -> None:
    run(PROGRAM)
