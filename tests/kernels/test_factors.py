"""Operands and products with factors of rows and of groups of K, in Triton's interpreter."""

from __future__ import annotations

import pytest

from tests.interpreted import interpreted

PROGRAM = """
import torch
from tests.kernels.factor_cases import SMALL, operands_wrong, wrong

torch.set_num_threads(1)
print("seed 3")
bad = [line for i in {cases!r} for line in wrong(SMALL[i], "cpu")]
bad += operands_wrong("cpu", 7, 136, ("special",), {names!r})
assert not bad, bad
print("done")
"""


@pytest.mark.parametrize(
    ("cases", "names"),
    [
        ((1, 7), ("outer of rows, tiles",)),
        pytest.param(range(8), (), marks=pytest.mark.slow),
    ],
    ids=["a few", "all"],
)
def test_products_and_the_references_operands(cases: tuple[int, ...], names: tuple[str, ...]) -> None:
    pytest.importorskip("triton")
    assert interpreted("-c", PROGRAM.format(cases=tuple(cases), names=names)).endswith("done")
