"""The nets' fused kernels in Triton's interpreter, which has to be chosen before triton is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted


@pytest.mark.parametrize("checks", ["fused_checks.py", "pack_bits_checks.py"])
def test_the_fused_kernels_are_torchs_forms(checks: str) -> None:
    pytest.importorskip("triton")
    interpreted(str(Path(__file__).with_name(checks)))
