"""The memory of moments in their storage formats: by counting what a format keeps, and in `dse plan` and `dse cost`."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.commands.gallery import cost
from dse.errors import UserError
from dse.optim import SECOND_MOMENTS
from dse.optim.moment_memory import format_bits, moment_bytes, moment_memory
from dse.plan import make_plan, plan_text
from dse.sweep import load_sweep

BITS_OF_64 = {  # element bits, then bits of scales and means, of 64 parameters
    "fp32": 64 * 32,
    "bf16": 64 * 16,
    "fp16": 64 * 16,
    "fp8": 64 * 8,
    "mxfp8": 64 * 8 + 2 * 8,
    "nvfp4": 64 * 4 + 4 * 8,
    "nvfp4_sqrt": 64 * 4 + 4 * 8,
    "nvfp4_hadamard": 64 * 4 + 4 * 8 + 4 * 16,
}


def test_bits_of_every_format() -> None:
    assert {name: 64 * format_bits(form) for name, form in SECOND_MOMENTS.items()} == BITS_OF_64


def test_optimizers_keep_one_moment_or_two() -> None:
    assert moment_bytes("adamw") == moment_bytes("stable_spam") == (8, 8)
    assert moment_bytes("sgd") == (4, 4)
    assert moment_bytes("muon", "fp8") == (1, 5)
    assert moment_bytes("adamw", "nvfp4", "nvfp4_hadamard") == (10 / 8, 10 / 8)
    assert moment_memory("adamw", "fp8", "fp16") == "adamw, first fp8, second fp16: 3 bytes per parameter, 8 in FP32"
    assert "1 bytes per parameter of hidden matrices and 5 of others" in moment_memory("muon", "fp8", "fp32")
    with pytest.raises(UserError, match="sgd has no second moment"):
        moment_bytes("sgd", "fp32", "fp16")


def test_plan_and_cost_mention_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "moments.yaml"
    file.write_text("tasks: [regression]\nrecipes: [mxfp4]\nseeds: 1\ngrid: {training.first_moment: [fp32, fp8]}\n")
    text = plan_text(make_plan(load_sweep(file), {}))
    line = "  moments: adamw, first fp8, second fp32: 5 bytes per parameter, 8 in FP32 (emulated: "
    assert text.count(line) == 1
    assert text.count("moments:") == 1
    cost("nvfp4", None, [])
    assert "fp8 1, mxfp8 1.03, nvfp4 0.562" in capsys.readouterr().out
