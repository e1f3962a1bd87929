"""`dse doctor` passes where everything is right, and fails where something is not."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from dse.commands import machine
from dse.errors import UserError
from dse.numerics.cast import cast
from dse.numerics.formats import ELEMENTS, SCALES
from dse.train.processor import described, processor


def test_it_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(machine._CHECKS, "ray")  # which takes seconds, and has tests of its own
    machine.doctor(tmp_path)
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert described(processor()) in out
    assert "casts are exact on cpu" in out
    assert "20 trials have the same bits in a pack and alone" in out


def test_it_sees_a_wrong_cast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that lets ties of E3M0 go down, as those of more than one bit may."""
    only = {"arithmetic": machine._arithmetic}
    monkeypatch.setattr(machine, "_CHECKS", only)
    monkeypatch.setattr("dse.numerics.cast.cast", lambda u, fmt: cast(torch.where(u == 3.0, 2.9, u), fmt))
    with pytest.raises(UserError, match="1 of 1 checks failed"):
        machine.doctor(tmp_path)
    assert "e3m0 casts are not exact on cpu" in capsys.readouterr().out


def test_it_sees_members_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.stack([x @ y for x, y in zip(a, b, strict=True)]) * (1 + len(a) / 2**20)

    monkeypatch.setattr("dse.kernels.alignment.products", products)
    monkeypatch.setattr("dse.train.pack_check.MIX", ("bf16", "nvfp4"))
    with pytest.raises(RuntimeError, match="of 8 trials have other bits in a pack than alone"):
        list(machine._members(tmp_path))


def test_ties_in_whole_numbers() -> None:
    """The expected neighbor, by the definition: even last digit, or without one the larger magnitude."""
    for fmt in (*ELEMENTS.values(), SCALES["ue4m3"]):
        for low, high in pairwise(fmt.grid.tolist()):
            middle = (Fraction(low) + Fraction(high)) / 2
            expected = machine._tie(low, high, fmt)
            assert expected in (low, high)
            assert float(middle) == middle
            assert cast(torch.tensor([float(middle)], dtype=torch.float64), fmt).item() == expected
    assert machine._tie(2.0, 4.0, ELEMENTS["e3m0"]) == 4.0  # both 1 times a power of two
    assert machine._tie(2.0, 3.0, ELEMENTS["e2m1"]) == 2.0  # 1.0 and 1.1
