"""The page as a browser would read it: well formed, self-contained, escaped, complete, also where little is known."""

import csv
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.report import write_report
from dse.report.analysis.deployment import PLACES
from dse.results.record import Record
from tests.report.studies import INITIAL, diverged, failed, records_of, sweep_of

VOID = {"meta", "img", "input", "br", "link", "hr"}
HOSTILE = "<b>é\"'&$x$ μ</b>"
TEXT = f"""
    # </pre><script>alert(1)</script>
    tasks: [lm, regression]
    recipes: [mxfp8, mxfp4, nvfp4, {{'{HOSTILE.replace("'", "''")}': {{base: nvfp4_plain}}}}]
    seeds: 3
    grid: {{G.rounding: [nearest_even, stochastic]}}
    exclude: [{{recipe: mxfp8, G.rounding: stochastic}}]
"""


class Page(HTMLParser):
    """Checks nesting while reading; collects tags, ids, links and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


def rule(at: Mapping[str, Any]) -> float:
    """Regression's gaps span three decades; mxfp8 is better than the baseline."""
    gap = {"bf16": 0.0, "mxfp8": -0.001, "mxfp4": 0.5, "nvfp4": 0.001, HOSTILE: 0.002}[at["recipe"]]
    helps = 0.9 if at["G.rounding"] == "stochastic" else 1.0
    return 1.0 + 0.01 * at["seed"] + gap * helps * (1 + 0.1 * at["seed"])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """One report of a sweep with everything in it: overrides, a diverged, a failed, a missing and excluded cells."""
    folder = tmp_path_factory.mktemp("report")
    sweep = replace(sweep_of(folder, TEXT), name="a/b <i>")
    records = {r.uid: r for r in records_of(sweep, rule)}
    victims = [c for c in sweep.cells if c.labels["recipe"] == HOSTILE]
    records[victims[0].uid] = diverged(victims[0], 4, "gradient of <w> & co")
    records[victims[1].uid] = failed(victims[1], "Traceback ...\nValueError: </pre><script>alert(2)</script>")
    del records[victims[2].uid]
    path = write_report(sweep, list(records.values()), folder / "reports")
    return path, Page(path.read_text(encoding="utf-8"))


def test_the_page_stands_alone(report: tuple[Path, Page]) -> None:
    path, page = report
    assert (path.parent.name, path.name) == ("reports", "a-b-i.html")
    for link in page.values("src") + page.values("href"):
        assert link.startswith(("data:", "#", "a-b-i/")), link[:80]
    assert not re.search(r"url\([^#]|@import|https?://", path.read_text(encoding="utf-8"))
    assert len(set(page.values("id"))) == len(page.values("id"))
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(page.values("id"))
    for link in page.values("href"):
        assert link.startswith("#") or (path.parent / link).is_file()


def test_what_comes_from_outside_is_text(report: tuple[Path, Page]) -> None:
    _, page = report
    assert page.tags.count("script") == 2  # one of them the details of the points, as JSON
    assert HOSTILE in page.text
    assert "# </pre><script>alert(1)</script>" in page.text
    assert "ValueError: </pre><script>alert(2)</script>" in page.text
    assert "gradient of <w> & co" in page.text
    assert "i" in page.tags  # the page's own
    assert "a/b <i>" in page.text


def test_every_section_has_its_figure_and_its_numbers(report: tuple[Path, Page]) -> None:
    _, page = report
    sections = "findings pareto deployment configurations effects curves problems provenance"
    assert set(sections.split()) <= set(page.values("id"))
    assert page.tags.count("svg") == 4 + 2 * len(PLACES)  # over both tasks, and each
    assert page.values("src") == []
    said = page.values("aria-label")
    assert any(one.startswith("Scatter plot of ") and "On the front, cheapest first: " in one for one in said)
    text = page.text.replace("\u00a0", " ")
    assert "1 diverged, 1 failed and 1 not run yet" in text
    assert "4 (seed 0)" in text
    assert "6 cells: excluded" in text
    assert "dse run" in text


def test_the_data_beside_the_page(report: tuple[Path, Page]) -> None:
    path, _ = report
    data = {
        file.name: list(csv.DictReader(file.open(encoding="utf-8"))) for file in (path.parent / "a-b-i").glob("*.csv")
    }
    names = {"trials", "configs", "effects", "interactions", "variance", "proxies", "curves", "agreement", "claims"}
    names.add("deployment")
    assert set(data) <= {f"{name}.csv" for name in names}
    assert set(data) >= {f"{name}.csv" for name in names - {"variance"}}
    assert len(data["trials.csv"]) == 2 * 3 * (1 + 1 + 3 * 2)
    row = next(r for r in data["trials.csv"] if (r["task"], r["config"]) == ("lm", "mxfp4 G.rounding=stochastic"))
    assert float(row["gap"]) == pytest.approx(0.45 * (1 + 0.1 * int(row["seed"])))
    assert float(row["lost"]) == pytest.approx(float(row["gap"]) / (INITIAL - float(row["base_metric"])))
    assert {r["axis"] for r in data["effects.csv"]} == {"recipe", "G.rounding"}
    assert {r["recipe"] for r in data["curves.csv"]} >= {"bf16", "mxfp4", HOSTILE}
    differences = [float(r["difference"]) for r in data["curves.csv"] if r["recipe"] == "bf16"]
    assert set(differences) == {0.0}


def _all_diverged(records: list[Record], cells: Mapping[str, Any]) -> list[Record]:
    return [diverged(cells[r.uid]) for r in records]


DEGENERATE = {
    "nothing run": lambda records, cells: [],
    "all diverged": _all_diverged,
    "no baseline": lambda records, cells: [r for r in records if not cells[r.uid].is_baseline],
    "only the baseline": lambda records, cells: [r for r in records if cells[r.uid].is_baseline],
    "no curves": lambda records, cells: [replace(r, curve=[], evals=[], started="", versions={}) for r in records],
}


@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize("case", DEGENERATE)
def test_little_is_known(case: str, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "name: x\ntasks: [lm]\nrecipes: [mxfp4]\nseeds: 1\n")
    cells = {cell.uid: cell for cell in sweep.cells}
    records = records_of(sweep, lambda at: 1.0 + 0.1 * (at["recipe"] == "mxfp4"))
    path = write_report(sweep, DEGENERATE[case](records, cells), tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    expected = {
        "nothing run": "Nothing has been run yet",
        "all diverged": "diverged",
        "no baseline": "baseline not run yet",
        "only the baseline": "not run yet",
        "no curves": "There are no curves yet",
    }
    assert expected[case] in page.text
    assert "nan" not in page.text.split()
    assert (tmp_path / "x" / "trials.csv").is_file()


@pytest.mark.usefixtures("few_pictures")
def test_a_standalone_page_links_to_nothing_beside_it(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "name: x\ntasks: [lm]\nrecipes: [mxfp4]\nseeds: 2\n")
    records = records_of(sweep, lambda at: 1.0 + 0.1 * (at["recipe"] == "mxfp4"))
    links = {}
    for standalone in (False, True):
        path = write_report(sweep, records, tmp_path, standalone=standalone)
        links[standalone] = [link for link in Page(path.read_text(encoding="utf-8")).values("href") if link[0] != "#"]
    assert "x/trials.csv" in links[False]
    assert not links[True]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is computed."""
    monkeypatch.setattr("dse.report.write.tabulate", None)
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 1\n")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"^cannot write the report to [^\n]*$"):
        write_report(sweep, [], tmp_path / "file")


def test_importing_the_package_is_light() -> None:
    heavy = "{'torch', 'pandas', 'seaborn', 'matplotlib', 'scipy', 'jinja2', 'numpy'}"
    code = f"import sys, dse.report; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
