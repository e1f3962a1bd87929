"""`dse cost --measure`: kernels timed here beside what the time model says of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dse.bench.own_kernels import timed_kernels
from dse.cli import app
from dse.commands.measured_cost import profile_of
from dse.cost.models import deployed
from dse.cost.profiles import PROFILES
from dse.cost.roofline import GemmCall, machine
from dse.kernels import cpu_loops
from dse.recipes import RECIPES

MODEL = """
name: tiny
title: Tiny
source: this test
tokens: 96
sequence: 96
hidden: 64
kinds:
  block:
    linears:
      - {role: attention.q, inputs: 64, outputs: 64, source: norm}
      - {role: attention.k, inputs: 64, outputs: 32, source: norm}
      - {role: ffn.down, inputs: 128, outputs: 64}
order: [[block, 3]]
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(MODEL, encoding="utf-8")
    return str(path)


def test_every_kernel_of_a_model_once(model: str) -> None:
    """Two shapes (q and k are one GEMM), each with six operands and three products."""
    rows = list(timed_kernels(RECIPES["mxfp4"], deployed(model), "cpu", machine("h200")))
    assert [(row.layer, row.what, row.rows, row.columns) for row in rows[:3]] == [
        ("attention.q + attention.k", "fprop.lhs quantized", 96, 64),
        ("attention.q + attention.k", "fprop.rhs quantized", 96, 64),
        ("attention.q + attention.k", "fprop product", 96, 96),
    ]
    assert len(rows) == 2 * (6 + 3)
    assert all(0 < row.measured < 10 and 0 < row.predicted < 1e-3 for row in rows)
    programs = {row.program for row in rows if "quantized" in row.what}
    assert programs == {"cpu loops" if cpu_loops.in_use() else "reference"}
    own = next(row for row in rows if row.what == "wgrad product" and row.layer == "ffn.down")
    assert (own.rows, own.columns) == (64, 128)
    assert own.predicted == machine("h200").gemm(GemmCall(64, 128, 96, 32, operands=4, result=4))


def test_shared_codes_and_wide_operands_are_not_quantized_again(model: str) -> None:
    found = {row.what for row in timed_kernels(RECIPES["nvfp4"], deployed(model), "cpu", None)}
    assert "dgrad.rhs quantized" not in found  # square tiles of W: the forward codes serve
    assert {"fprop.rhs quantized", "wgrad.rhs quantized", "dgrad product"} <= found
    rows = list(timed_kernels(replace(RECIPES["bf16"]), deployed(model), "cpu", None))
    assert {row.what for row in rows} == {"fprop product", "dgrad product", "wgrad product"}
    assert all(math.isnan(row.predicted) for row in rows)


def test_the_command_prints_and_saves_a_table(model: str, tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    run = ["cost", "--measure", "--model", model, "--hardware", "h200", "--save", str(out)]
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    content = json.loads(out.read_text(encoding="utf-8"))
    if not torch.cuda.is_available():
        assert "no GPU here: the loops of a CPU" in done.output
        assert content["tokens"] == 64  # a CPU measures few
    assert "kernels: median error" in done.output
    assert (content["model"], content["hardware"], content["unit"]) == ("tiny", "h200", "s")
    assert set(content["versions"]) >= {"dse", "torch", "python"}
    assert content["date"].startswith("20")
    assert len(content["kernels"]) == done.output.count(" us ") // 2
    assert {row["recipe"] for row in content["kernels"]} == {"nvfp4"}
    wrong = CliRunner().invoke(app, [*run[:-1], str(tmp_path / "none" / "table.json")])
    assert wrong.exit_code != 0


def test_profiles_of_devices() -> None:
    names = {
        "NVIDIA H200": "h200", "NVIDIA H200 NVL": "h200-nvl", "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA B200": "b200", "NVIDIA GB200": "gb200", "NVIDIA B300 SXM6 AC": "b300",
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "rtx-pro-6000", "NVIDIA GeForce RTX 5090": "rtx-5090",
        "AMD Instinct MI355X": "mi355x", "Tesla T4": "",
    }  # fmt: skip
    assert {name: profile_of(name) for name in names} == names
    assert set(names.values()) - {""} <= set(PROFILES)
