"""The nets' fused kernels in Triton's interpreter, which has to be chosen before triton is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted


def test_the_fused_kernels_are_torchs_forms() -> None:
    pytest.importorskip("triton")
    interpreted(str(Path(__file__).with_name("fused_checks.py")))
