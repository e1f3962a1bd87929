"""Gradients through block quantizers in Triton's interpreter: the reference's bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted

pytest.importorskip("triton")


def test_every_slope_and_scale() -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    said = interpreted(str(Path(__file__).with_name("gradient_cases.py")))
    print(said)
    assert said.endswith(" 0 differ")
