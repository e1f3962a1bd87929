"""Weight rules by kernels in Triton's interpreter: plain torch's bits, also of members that skip a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted

pytest.importorskip("triton")


def test_several_steps_of_every_rule() -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    said = interpreted(str(Path(__file__).with_name("weight_rule_cases.py")))
    print(said)
    assert said.endswith(" 0 differ")
