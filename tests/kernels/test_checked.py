"""A GPU leaves to plain torch what was not compared there; the checks themselves run all kernels."""

from __future__ import annotations

import pytest

from dse.fused import checked
from dse.fused.checked import all_kernels, unchecked
from dse.pack.backend import uncovered
from dse.recipes import RECIPES

WHY = "its kernels were not compared on a GPU"


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on which two parts have not been compared."""
    monkeypatch.setattr(checked, "interpreted", lambda: False)
    for part in ("outliers", "derivatives"):
        monkeypatch.setitem(checked.UNCHECKED, part, WHY)


def test_plain_torch_computes_what_was_not_compared() -> None:
    found = {part.part: part.why for part in uncovered(RECIPES["wang_fp4"])}
    assert WHY in found["fprop.lhs"]
    assert found["fprop.rhs derivative"] == WHY
    assert uncovered(RECIPES["nvfp4"]) == ()
    assert unchecked("quantizers") == ""


def test_checks_run_all_kernels() -> None:
    with all_kernels():
        assert uncovered(RECIPES["wang_fp4"]) == uncovered(RECIPES["quartet"]) == ()
    assert uncovered(RECIPES["quartet"])
