"""One torch thread in every test of this folder: sums by two are not bit-equal."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)
