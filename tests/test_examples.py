"""The examples run, in an empty folder; the notebook is a valid one without outputs."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import polars as pl
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Figures and their settings are forgotten again."""
    monkeypatch.chdir(tmp_path)
    with mpl.rc_context({"backend": "agg"}):
        yield
        plt.close("all")


def script(name: str, *arguments: str) -> dict[str, Any]:
    """The names of a script after it has run as the main program."""
    before, sys.argv = sys.argv, [name, *arguments]
    try:
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = before


def test_a_sweep_and_a_figure_of_its_results(capsys: pytest.CaptureFixture[str]) -> None:
    script("sweep.py")
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "reports/formats.html"
    assert all(recipe in out for recipe in ("bf16", "mxfp8", "mxfp4_rht_sr", "nvfp4"))
    assert Path("reports/formats.html").stat().st_size > 10_000
    script("figure.py", "formats.yaml", "results", "own.png")
    assert Path("own.png").read_bytes().startswith(PNG)


def test_a_model_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    script("own_model.py")
    out = capsys.readouterr().out
    accuracy = {name: float(share) for name, share in re.findall(r"^(.+): accuracy (0\.\d+)$", out, re.MULTILINE)}
    assert set(accuracy) == {"bf16", "nvfp4", "nvfp4, nearest"}
    assert min(accuracy.values()) > 0.8
    assert "left: exempt '0'" in out


def cells(path: Path, kind: str) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_and_has_no_outputs(path: Path) -> None:
    """By the schema of nbformat 4.5: required keys, unique ids, text as a list of lines."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        own = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            own |= {"outputs", "execution_count"}
        else:
            assert cell["cell_type"] == "markdown"
        assert set(cell) == own
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert all(len(line) <= 120 for line in cell["source"])


def test_the_code_of_the_notebook_runs() -> None:
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, source in enumerate(cells(EXAMPLES / "rounding.ipynb", "code"), 1):
        exec(compile(source, f"rounding.ipynb, code cell {number}", "exec"), names)
    assert (names["summary"].ok, names["summary"].failed) == (9, 0)
    assert isinstance(names["frame"], pl.DataFrame)
    curves = names["curves"]
    assert curves["step"].nunique() == 9
    assert set(curves["configuration"]) == {"bf16", "mxfp4 G.rounding=nearest_even", "mxfp4 G.rounding=stochastic"}
    assert len(names["figure"].axes.flat[0].lines) >= 3
    assert names["pairs"].drop_nulls().shape == (3, 3)


def test_every_example_is_listed() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in [*EXAMPLES.glob("*.py"), *NOTEBOOKS]:
        assert f"]({path.name})" in page
