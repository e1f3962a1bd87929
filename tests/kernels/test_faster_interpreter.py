"""The interpreter that tests use against Triton's own: the same bits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.interpreted import interpreted


def test_it_gives_the_bits_of_tritons_own() -> None:
    pytest.importorskip("triton")
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    command = (str(Path(__file__).with_name("interpreter_cases.py")), str(seed))
    own, faster = (interpreted(*command, faster=faster) for faster in (False, True))
    assert len(set(own.split())) > 1000
    assert own == faster
