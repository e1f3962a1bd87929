"""Kernel segments against the reference, in Triton's interpreter: the same Y, dX, dW and state, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted

ROOT = Path(__file__).parents[2]
MIXED = """
import torch
from tests.pack.segment_cases import difference, gallery
from dse.pack.layer import PackLayer

known = gallery()
for names in (("nvfp4", "bf16"), ("tetrajet2_base", "tetrajet"), ("fp32", "mxfp4", "wang_fp4", "tetrajet")):
    recipes = [known[name] for name in names]
    assert difference(recipes, torch.float32) == 0, names
w = torch.zeros(4, 32, 32)
clock = torch.zeros(4, 2, dtype=torch.int64)
layer = PackLayer([known[name] for name in ("nvfp4", "bf16", "mxfp4", "mxfp8")], w, clock, 0, True)
assert len(layer.segments) == 1
print("done")
"""


def test_mixed_members() -> None:
    pytest.importorskip("triton")
    assert interpreted("-c", MIXED) == "done"


NAMES = "bf16 wang_fp4 tetrajet2 tetrajet_q_ema fp4_all_the_way_qaf nvfp4_4over6"
"""A weight rule, a derivative, a schedule that watches, rotated copies, and what has kernels at all points."""


@pytest.mark.parametrize(
    "arguments",
    [NAMES, "--generated 2 --seed 1", pytest.param("", marks=pytest.mark.slow),
     pytest.param("--generated 30 --seed 2", marks=pytest.mark.slow)],
)  # fmt: skip
def test_every_result(arguments: str) -> None:
    pytest.importorskip("triton")
    said = interpreted(str(ROOT / "tests" / "pack" / "segment_cases.py"), *arguments.split())
    print(said)
    assert said.endswith(" 0 differ")
