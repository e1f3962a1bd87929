"""What ``dse bench`` prints and writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("rich")

from dse.bench.measurements import Measurement, number, target
from dse.commands import bench
from dse.errors import UserError


def test_packs_are_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "packs.json"
    bench.packs("cpu", out, bench.PacksOptions(quick=True, models=["mlp"], only=["pack", "bf16"]))
    shown = capsys.readouterr().out
    assert "pack of 4 / bf16" in shown
    assert "Packs on cpu" in shown
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    narrow = [" / bf16", ", bf16 activations / bf16, bf16 activations"]
    packs = ["", ", bf16 activations", ", bf16", ", bf16, bf16 activations", *narrow]
    assert [row["variant"] for row in rows] == [f"pack of 4{name}" for name in packs]


def test_kernels_are_held_against_a_copy(tmp_path: Path) -> None:
    """On a CPU the reference alone (kernels where Triton interprets them), at a small size."""
    out = tmp_path / "kernels.json"
    bench.kernels("cpu", out, quick=True, size=64)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert rows[0]["figure"] == "copy"
    found = {row["figure"]: row for row in rows if row["variant"] == "eager reference"}
    assert {"nearest", "stochastic 8, Hadamard 16"} <= found.keys()
    for row in found.values():
        assert row["ratio"] == pytest.approx(row["value"] / rows[0]["value"])


def test_targets_say_whether_they_are_reached() -> None:
    row = asdict(Measurement("nearest", "default", 0.11, "ms", 0.1, 1.1, target=1.1, better="lower"))
    assert target(row) == "target <= 1.1 reached"
    assert target(row | {"ratio": 1.2}) == "target <= 1.1 MISSED"


def test_folders_of_peers() -> None:
    assert bench.folders(["torchao", "microxcaling=/a=b"]) == {"torchao": "", "microxcaling": "/a=b"}
    with pytest.raises(UserError, match="torchao"):
        bench.folders(["torch=/x"])


def test_numbers_and_lines() -> None:
    assert [number(x) for x in (None, 0.12345, 12345.6)] == ["-", "0.1235", "12,346"]
    line = Measurement("gpt128", "pack of 64", 1500.0, "model-steps/s", memory=3.25, note="graph yes").line()
    assert "1,500 model-steps/s" in line
    assert "3.25 GiB" in line
    assert line.endswith("graph yes")
