"""The command `cost` with a model and hardware."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from dse.cli import main

FAST = ("--model", "llama3-1b", "--hardware", "b200")


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with patch.object(sys, "argv", ["dse", "cost", *arguments]), pytest.raises(SystemExit) as left:
        main()
    out = capsys.readouterr()
    assert left.value.code in (code, None if code == 0 else code)
    return out.out + out.err


def test_a_step_and_its_parts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "steps.svg"
    told = said(capsys, "nvfp4", *FAST, "--extra-tokens", "36", "--picture", str(picture))
    assert "Llama 3.2 1B on NVIDIA B200 (HGX): 8,192 tokens per step" in told
    for part in ("GEMMs", "maxima", "quantization", "attention", "sum", "tokens/s and GPU", "equal quality"):
        assert part in told
    assert "quantization" in picture.read_text(encoding="utf-8") or picture.stat().st_size > 5000


def test_recipes_compared(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "--compare", "nvfp4", "ue5m3", *FAST)
    order = told[told.index("in the order of time") :]
    assert order.index("nvfp4") < order.index("ue5m3")
    assert "lacks a unit for e2m1 with ue5m3 scales per 16" in told


def test_a_shape_that_hardware_cannot_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "mxfp4", "--hardware", "b200", "--shape", "8192,4100,4096")
    assert "lacks K = 4,100 as a multiple of 32 in fprop" in told
    told = said(capsys, "nvfp4", "--hardware", "rtx-pro-6000", "--shape", "6656,256,256")
    assert "slower than BF16" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nvfp4", "--model", "lama3-8b"), "unknown model 'lama3-8b'; did you mean 'llama3-8b'?"),
        (("nvfp4", "--hardware", "b2000"), "unknown hardware 'b2000'"),
        (("nvfp5", *FAST), "unknown recipe 'nvfp5'"),
        (FAST, "name a recipe"),
        (("nvfp4", *FAST, "--tensor-parallel", "3"), "do not split among 3 GPUs"),
        (("nvfp4", *FAST, "--picture", "steps.doc"), "a picture's name ends in .svg, .png, .pdf"),
        ((), "name a recipe"),
    ],
)
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str) -> None:
    out = said(capsys, *arguments, code=2)
    assert told in out
