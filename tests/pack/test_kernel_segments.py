"""Kernel segments against the reference, in Triton's interpreter: the same Y, dX and dW within a product's rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import torch
from dse.pack import segments
from dse.pack.layer import PackLayer
from dse.pack.linear import _Stacked
from dse.pack.grouping import unlabeled
from dse.recipes import RECIPES

M, N, K = 16, 32, 48
g = torch.Generator().manual_seed(2)
for names in (("nvfp4", "bf16"), ("tetrajet2_base", "tetrajet"), ("fp32", "mxfp4_rht_sr", "tetrajet")):
    recipes = [unlabeled(RECIPES[name]) for name in names]
    clock = torch.tensor([[i, 3] for i in range(len(names))])
    x, w, dy = (torch.randn(len(names), *s, generator=g) for s in ((M, K), (N, K), (M, N)))
    results = []
    for use_kernels in (False, True):
        layer = PackLayer(recipes, w, clock, 0, use_kernels)
        if use_kernels:
            kinds = [type(s).__name__ for s in layer.segments]
            assert "Kernel" in kinds, kinds
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        y = _Stacked.apply(a, b, None, layer)
        results.append((y, *torch.autograd.grad(y, (a, b), dy)))
    for what, one, two in zip(("Y", "dX", "dW"), *results):
        off = float((one - two).abs().max() / one.abs().max())
        assert off < 1e-5, (names, what, off)
print("done")
"""


def test_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.stdout.strip() == "done", done.stderr[-2000:]
