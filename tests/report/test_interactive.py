"""The page in a browser: points tell their numbers, a click highlights a configuration everywhere, filters, size."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from dse.report import write_report
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.tidy import tabulate
from dse.report.analysis.varied_look import by_varied_option, varied_axis
from dse.report.sections.point_details import as_script
from tests.report.studies import records_of, sweep_of

TEXT = """
    name: page
    tasks: [lm]
    recipes: [mxfp4]
    seeds: 2
    grid: {G.rounding: [nearest_even, stochastic], '*.block': [8, 16, 32]}
"""
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
_ACT = """
<script>
const point = document.querySelector(".pt");
point.dispatchEvent(new MouseEvent("mousemove", {clientX: 20, clientY: 20}));
const told = document.getElementById("tip").innerText;
point.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"}));
const line = document.querySelector(".said");
line.scrollIntoView({block: "center"});
const at = line.getBoundingClientRect();
const near = {clientX: at.left + at.width / 2, clientY: at.top + at.height / 2 + 2, bubbles: true};
line.dispatchEvent(new MouseEvent("mousemove", near));
const said = document.getElementById("tip").innerText;
const same = document.querySelectorAll('[data-c="' + point.dataset.c + '"]').length;
const picked = document.querySelectorAll(".picked").length;
const choice = document.querySelector("select[data-axis='G.rounding']");
choice.value = "stochastic";
choice.dispatchEvent(new Event("change"));
const rows = Array.from(document.querySelectorAll("#configurations tbody tr")).filter((row) => !row.hidden);
const left = rows.map((row) => row.cells[0].textContent.trim());
const wide = document.documentElement.scrollWidth;
document.body.dataset.seen = JSON.stringify({told, said, same, picked, left, wide, view: innerWidth});
</script>
"""


def rule(at: Mapping[str, Any]) -> float:
    if at["recipe"] == "bf16":
        return 1.0
    return 1.1 + 0.001 * at["*.block"] + 0.01 * at["seed"] - 0.02 * (at["G.rounding"] == "stochastic")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interactive")
    sweep = sweep_of(folder, TEXT)
    return write_report(sweep, records_of(sweep, rule), folder / "out", folder / "results")


def test_points_know_their_configurations(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="details">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    details = json.loads(found[1])
    assert {one["n"] for one in details} >= {"bf16", "mxfp4 G.rounding=stochastic *.block=8"}
    titles = re.findall(r'<g class="pt" data-c="(\d+)" tabindex="0"><title>(.*?)</title>', html, re.DOTALL)
    assert len({number for number, _ in titles}) == 7  # six and the baseline
    for number, title in titles:
        one = details[int(number)]
        assert unescape(title) == "\n".join([one["n"], *one["t"]])
        assert re.search(r"\ndse why [0-9a-f]{8} --results ", unescape(title))
    six = next(one for one in details if one["n"] == "mxfp4 G.rounding=stochastic *.block=8")
    text = " ".join(six["t"]).replace("\u00a0", " ")
    assert "lm: gap +0.093 ± 0.064 in loss, 2 seeds" in text
    assert re.search(r"overhead [\d.]+ %: \w+", text)
    assert six["o"] == {"recipe": "mxfp4", "G.rounding": "stochastic", "*.block": "8"}
    assert as_script([{"n": "</script>"}]) == '[{"n":"\\u003c/script>"}]'


def test_every_figure_and_table_is_a_file_too(page: Path) -> None:
    data = page.with_suffix("")
    for name in ("overall", "per-task", "forest", "curves"):
        assert (data / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (data / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    for name in ("configs", "effects", "interactions", "proxies"):
        assert (data / f"{name}.csv").is_file()
        assert "\\begin{longtable}" in (data / f"{name}.tex").read_text(encoding="utf-8")


def test_colors_follow_the_option_where_one_recipe_is_compared(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    table = tabulate(sweep, records_of(sweep, rule))
    assert varied_axis(table) == "*.block"
    shown, configs = by_varied_option(table, aggregate_seeds(table))
    assert shown.recipes == ["bf16", "*.block = 8", "*.block = 16", "*.block = 32"]
    assert set(configs["recipe"]) == set(shown.recipes)
    several = tabulate(sweep_of(tmp_path, TEXT.replace("[mxfp4]", "[mxfp4, nvfp4]")), [])
    assert varied_axis(several) == ""


@pytest.mark.skipif(not BROWSER, reason="no browser is installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(page: Path, tmp_path: Path, width: int) -> None:
    acted = tmp_path / "acted.html"
    acted.write_text(page.read_text(encoding="utf-8").replace("</body>", _ACT + "</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [BROWSER, *options, profile, acted.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    seen = json.loads(unescape(found[1]))
    assert "dse why " in seen["told"]
    assert seen["said"].startswith("G.rounding = stochastic, instead of nearest_even\n−2.00")
    assert seen["picked"] == seen["same"] > 2  # in both panels and the table
    assert len(seen["left"]) == 3
    assert all("G.rounding=stochastic" in name for name in seen["left"])
    assert seen["wide"] <= seen["view"], "nothing but tables and figures scrolls sideways"
