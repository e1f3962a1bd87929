"""Means over a batch, and what else gives a member of a pack the bits of its solo run; kernels by the interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dse.tasks.means import cross_entropy
from tests.interpreted import interpreted


def test_a_member_has_the_same_bits_alone_and_in_a_pack() -> None:
    pytest.importorskip("triton")
    interpreted(str(Path(__file__).with_name("pack_bits_checks.py")))


def test_a_cross_entropy_leaves_no_label_out() -> None:
    """A mean over some of the items would be another number on a GPU than on a CPU."""
    scores, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 2, 1, 2])
    torch.testing.assert_close(cross_entropy(scores, labels), -scores.log_softmax(-1)[range(4), labels].mean())
    labels[1] = -100
    with pytest.raises(IndexError, match="out of bounds"):
        cross_entropy(scores, labels)
