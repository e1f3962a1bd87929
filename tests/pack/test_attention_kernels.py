"""Packed attention by kernels, in Triton's interpreter: every member's bits are those it has alone in plain torch."""

from __future__ import annotations

import pytest

from tests.interpreted import ROOT, interpreted


@pytest.mark.parametrize(
    ("names", "compared"),
    [("sagebwd bf16 full_stack_attention smooth", 3), pytest.param("", 8, marks=pytest.mark.slow)],
)
def test_members_with_quantized_attention(names: str, compared: int) -> None:
    pytest.importorskip("triton")
    said = interpreted(str(ROOT / "tests" / "pack" / "attention_cases.py"), *names.split())
    assert sum(int(line.split()[1]) for line in said.splitlines() if line.startswith("compared")) == compared, said
