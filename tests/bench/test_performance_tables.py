"""The tables of docs/performance.md are made from measured rows alone."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("seaborn")

from dse.bench.measurements import Measurement, document
from dse.bench.ratios import ratios

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "performance_tables.py"))


def measured(model: str, variant: str, rate: float, memory: float = 4.0) -> Measurement:
    width = int(variant.removeprefix("pack of ").partition(",")[0]) if variant.startswith("pack") else 1
    facts = {"tokens/s": 8192 * rate, "TFLOP/s": rate, "GEMM TFLOP/s": 700.0, "of GEMM": rate / 700}
    facts |= {"width": width, "parameters": 6e7, "GiB a member": memory / width}
    return Measurement(model, variant, rate, "model-steps/s", memory=memory, facts=facts)


def files(folder: Path) -> list[Path]:
    """Two runs; the second measures one thing again, and could not measure another."""
    first = [measured("lm-60M", name, rate) for name, rate in (("compiled bf16", 26.0), ("pack of 1, nvfp4", 15.0))]
    first += [measured("lm-60M", "pack of 2, nvfp4", 18.0), measured("gpt128", "compiled nvfp4", 600.0)]
    first += [measured("gpt128", "pack of 64, nvfp4", 3000.0), measured("gpt128 gallery", "nvfp4", 3000.0)]
    first += [measured("gpt128 gallery", "if4", 1500.0), measured("gpt128 gallery", "whole gallery, 84 members", 900.0)]
    first += [measured("gpt128 gallery", "nvfp4, 84 members", 3600.0)]
    second = [measured("lm-60M", "pack of 2, nvfp4", 20.0), Measurement("lm-60M", "compiled bf16", None, "", note="x")]
    paths = []
    for name, rows in (("first", [*first, *ratios(first)]), ("second", second)):
        content: dict[str, Any] = document(rows, "cpu", f"python /somewhere/dse/bench/packs.py --out /x/{name}.json")
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(content), encoding="utf-8")
    return paths


def test_tables_and_plot(tmp_path: Path) -> None:
    page, svg = tmp_path / "page.md", tmp_path / "growth.svg"
    page.write_text((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    readme = tmp_path / "readme.md"
    readme.write_text("<!-- begin speed -->\n<!-- end speed -->\n", encoding="utf-8")
    words = [*map(str, files(tmp_path)), "--page", str(page), "--plot", str(svg), "--readme", str(readme)]
    assert TOOL["main"](words) == 0
    lines = page.read_text(encoding="utf-8").splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert "| 60M | plain, compiled BF16 | 1 | 26 | 212,992 | 26.0 | 3.7 % | 4 |" in lines
    assert "| 60M | nvfp4 | 1 | 15 | 122,880 | 15.0 | 2.1 % | 4 |" in lines
    assert "| 60M | nvfp4 | 2 | 20 | 163,840 | 20.0 | 2.9 % | 2 |" in lines
    assert "| gpt128 | pack of 64, nvfp4 / compiled nvfp4 | 3,000 | 600 | 5 | >= 6 missed |" in lines
    assert "| if4 | 1,500 | 0.5 |" in lines
    assert "| whole gallery, 84 members | 900 | 0.25 |" in lines
    assert any("python -m dse.bench.packs --out first.json" in line for line in lines)
    said = " ".join(readme.read_text(encoding="utf-8").split())
    assert "under `nvfp4` makes 3,000 model-steps a second: 5.0 times what one process makes that" in said
    assert "A step of a 60M model takes 1.30 times as long" in said
    assert said.startswith("<!-- begin speed --> On one cpu ")
    before = page.read_bytes(), svg.read_bytes()
    assert TOOL["main"](words) == 0
    assert (page.read_bytes(), svg.read_bytes()) == before


def test_a_page_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match="growth"):
        TOOL["filled"]("no place", "growth", ["| a |"])


def test_the_device_is_that_of_the_rows() -> None:
    def of(device: str, figure: str) -> dict[str, Any]:
        return {"device": f"{device}, 8 GiB", "rows": [{"figure": figure, "value": 1.0}]}

    documents = [of("GPU", "gpt128"), of("CPU", "lm tiny trial")]
    assert TOOL["device_of"](documents, "gpt128") == "GPU"
    assert TOOL["device_of"](documents, "lm-60M") == ""
