"""The code in docs/ runs: every ``python`` block of a page, in order, as one module."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from dse.numerics.registry import FAMILIES
from dse.numerics.techniques.statistics import STATISTICS, Statistic
from dse.trial import make_task
from tests.contract import test_registries as contract

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(
    page for page in DOCS.glob("*.md") if "```python" in page.read_text(encoding="utf-8") and page.name != "python.md"
)
"""All but python.md, which has a test of its own."""


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def registries() -> Iterator[None]:
    """What a page registers is forgotten again."""
    before = {base: dict(family) for base, family in FAMILIES.items()}
    yield
    for base, family in FAMILIES.items():
        family.clear()  # type: ignore[attr-defined]
        family.update(before[base])  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pages run in an empty folder; figures that they draw are closed."""
    monkeypatch.chdir(tmp_path)
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def run(page: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page as a module, so that its classes are pickled and hinted like those of a file."""
    if "from transformers import" in page.read_text(encoding="utf-8"):
        pytest.importorskip("transformers", reason="the page needs transformers: pip install 'fp4-dse[hf]'")
    module = ModuleType(page.stem.replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    for i, code in enumerate(blocks(page)):
        exec(compile(code, f"{page.name}, block {i + 1}", "exec"), vars(module))
    return module


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, monkeypatch)


@pytest.mark.usefixtures("registries")
def test_the_technique_that_the_page_adds_meets_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file and one entry are enough."""
    page = DOCS / "add-a-technique.md"
    assert page in PAGES
    known = set(STATISTICS)
    cls = run(page, monkeypatch).Rms
    assert set(STATISTICS) - known == {"rms"}
    contract.test_from_plain_data_and_back(Statistic, "rms", cls)
    contract.test_members_are_frozen_values(Statistic, "rms", cls)
    contract.test_members_refuse_what_they_do_not_know(Statistic, "rms", cls)
    contract.test_the_docstring_states_source_cost_and_errors(Statistic, "rms", cls)
    contract.test_operation_counts_are_stated_and_explained(Statistic, "rms", cls)


@pytest.mark.usefixtures("registries")
def test_the_page_on_python_leaves_a_figure_and_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    names = vars(run(DOCS / "python.md", monkeypatch))
    assert Path("formats.png").read_bytes().startswith(b"\x89PNG")
    assert Path("reports/formats/trials.csv").exists()
    assert names["frame"].height == len(names["sweep"].cells) == 16
    assert names["frame"]["status"].unique().to_list() == ["ok"]
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    table = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))
    assert set(table) - {"NAME"} <= set(names["frame"].columns), "the columns that the page explains"


def test_the_file_on_the_page_is_as_small_as_it_says() -> None:
    code = blocks(DOCS / "add-a-technique.md")
    assert code[0].startswith("# dse/numerics/techniques/statistics/rms.py\n")
    assert len(code[1].strip().splitlines()) == 3  # the import, a blank line, the entry


def test_the_learning_rates_on_the_page_are_the_defaults() -> None:
    row = r"^\| `(\w+)\(?([^)`]*)\)?` \| (\.\d+|–) \| (\.\d+|–) \|"  # task | tiny | small |
    rows = re.findall(row, (DOCS / "tasks.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 15
    for name, inner, *cells in rows:
        options: dict[str, object] = dict(pair.split("=") for pair in inner.split(", ") if pair)
        options |= {"qk_norm": True} if "qk_norm" in options else {}
        for size, cell in zip(("tiny", "small"), cells, strict=True):
            if cell != "–":
                assert make_task(name, {**options, "size": size}).training().lr == float(cell), (name, inner, size)
