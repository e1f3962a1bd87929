"""One report of several sweeps: shared trials count once, names that meet bear their sweep's, other things are refused.

The expected numbers follow from the rule that the records are made by, never from the code that joins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from dse.commands.sweeps import report
from dse.errors import UserError
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.effects import option_effects
from dse.report.analysis.tidy import tabulate
from dse.report.joined_sweeps import AXIS, join_sweeps
from dse.report.output_paths import output_name, sweep_hashes
from dse.results.record import Record
from dse.results.store import Store
from dse.sweep import Sweep, load_sweep
from tests.report.studies import record

pytestmark = pytest.mark.usefixtures("few_pictures")

GAPS = {"bf16": 0.0, "mxfp8": 0.01, "mxfp4": 0.2, "nvfp4": 0.1}


def sweep_named(folder: Path, name: str, text: str) -> Sweep:
    path = folder / f"{name}.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return load_sweep(path)


def records_of(*sweeps: Sweep) -> dict[str, Record]:
    """By uid. The final metric: 1 at 200 steps and more, plus the recipe's gap, a tenth less with rounding."""

    def metric(labels: Mapping[str, Any], steps: int) -> float:
        helps = 0.9 if labels.get("G.rounding") == "stochastic" else 1.0
        return 1.0 + 0.01 * labels["seed"] + GAPS[labels["recipe"]] * helps * steps / 200

    return {c.uid: record(c, metric(c.labels, c.trial.training.steps)) for s in sweeps for c in s.cells}


def base(recipes: str, extra: str = "", steps: int = 200, seeds: str = "2") -> str:
    text = f"tasks: [lm]\nrecipes: [{recipes}]\nseeds: {seeds}\ntraining: {{steps: {steps}}}\n"
    return text + (f"grid: {extra}\n" if extra else "")


def test_equal_trainings_share_baselines_and_compare_across_files(tmp_path: Path) -> None:
    a = sweep_named(tmp_path, "a", base("mxfp4, nvfp4"))
    b = sweep_named(tmp_path, "b", base("mxfp4, mxfp8", "{G.rounding: [nearest_even, stochastic]}"))
    both = join_sweeps([a, b])
    uids = [cell.uid for cell in both.cells]
    assert len(uids) == len(set(uids)) == len({cell.uid for s in (a, b) for cell in s.cells})
    assert [cell.config for cell in both.cells if cell.is_baseline] == ["bf16", "bf16"]
    assert AXIS not in both.axes
    table = tabulate(both, records_of(a, b).values())
    rows = aggregate_seeds(table)
    lost = dict(zip(rows["config"], rows["lost_mean"], strict=True))
    assert lost["nvfp4"] == pytest.approx(0.1 / 0.995, rel=0.01)
    assert "mxfp8 G.rounding=stochastic" in lost
    recipes = {e.value for e in option_effects(table) if e.axis == "recipe"}
    assert {"mxfp4", "nvfp4", "mxfp8"} & recipes


def test_other_trainings_are_told_apart(tmp_path: Path) -> None:
    a = sweep_named(tmp_path, "short", base("mxfp4, nvfp4"))
    b = sweep_named(tmp_path, "long", base("mxfp4, mxfp8", steps=400, seeds="[5, 6]"))
    both = join_sweeps([a, b])
    assert {c.config for c in both.cells} == {
        "bf16 [short]", "bf16 [long]", "mxfp4 [short]", "mxfp4 [long]", "nvfp4", "mxfp8",
    }  # fmt: skip
    assert both.axes[AXIS] == ("short", "long")
    assert all(cell.labels[AXIS] for cell in both.cells)
    table = tabulate(both, records_of(a, b).values())
    rows = aggregate_seeds(table).set_index("config")
    assert rows.loc["mxfp4 [short]", "gap_mean"].iloc[0] == pytest.approx(0.2)
    assert rows.loc["mxfp4 [long]", "gap_mean"].iloc[0] == pytest.approx(0.4)
    assert rows.loc["mxfp4 [long]", "seeds"].iloc[0] == 2, "seeds of different trainings must not be pooled"


def test_a_recipe_defined_twice_bears_its_sweep_and_the_rest_is_shared(tmp_path: Path) -> None:
    def text(block: int) -> str:
        return base(f"nvfp4, {{mine: {{base: mxfp4, '*.block': {block}}}}}")

    a, b = sweep_named(tmp_path, "a", text(32)), sweep_named(tmp_path, "b", text(16))
    both = join_sweeps([a, b])
    assert {c.config for c in both.cells} == {"bf16", "nvfp4", "mine [a]", "mine [b]"}
    assert {c.labels["recipe"] for c in both.cells} == {"bf16", "nvfp4", "mine [a]", "mine [b]"}
    assert AXIS not in both.axes


def test_one_is_itself_and_the_same_twice_is_refused(tmp_path: Path) -> None:
    a = sweep_named(tmp_path, "a", base("mxfp4"))
    assert join_sweeps([a]) is a
    with pytest.raises(UserError, match="named twice"):
        join_sweeps([a, a])


def test_places_and_what_is_saved_are_those_of_all(tmp_path: Path) -> None:
    a = sweep_named(tmp_path, "a", base("mxfp4") + "places: [llama3-8b on h200, llama3-8b on b200]\n")
    b = sweep_named(tmp_path, "b", base("nvfp4") + "places: [llama3-8b on b200, vit-l on b300]\nsave: weights\n")
    c = sweep_named(tmp_path, "c", base("mxfp8"))
    both = join_sweeps([a, b, c])
    assert [str(place) for place in both.places] == ["llama3-8b on h200", "llama3-8b on b200", "vit-l on b300"]
    assert both.save == ("weights",)
    assert not join_sweeps([c, sweep_named(tmp_path, "d", base("mxfp4"))]).places


def test_gaps_to_different_baselines_are_refused(tmp_path: Path) -> None:
    a = sweep_named(tmp_path, "a", base("mxfp4"))
    b = sweep_named(tmp_path, "b", base("mxfp4") + "baseline: mxfp8\n")
    with pytest.raises(UserError, match=r"a\.yaml compares with bf16, .*b\.yaml compares with mxfp8"):
        join_sweeps([a, b])


def test_the_page_names_every_file_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = sweep_named(tmp_path, "a", base("mxfp4, nvfp4"))
    b = sweep_named(tmp_path, "b", base("mxfp4", steps=400))
    store = Store(tmp_path / "results")
    store.append(*records_of(a, b).values())
    store.close()
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    report(files, store.folder, tmp_path / "out")
    assert "10 of 10 trials" in capsys.readouterr().out
    html = (tmp_path / "out" / "a-b.html").read_text()
    assert "mxfp4 [b]" in html
    assert f"dse run {files[0]} --results {store.folder} &amp;&amp; dse run {files[1]}" in html
    assert (tmp_path / "out" / "a-b" / "configs.csv").exists()
    single = replace(a, name="a + b")
    assert output_name(single, tmp_path / "out") != "a-b", "another sweep of that name must not replace the page"


def test_a_page_knows_its_sweep_in_another_checkout(tmp_path: Path) -> None:
    """The mark of a page does not depend on where the project lies, and pages from before this was so are known."""
    text = "name: same\ntasks: regression\nrecipes: bf16\n"
    marks = set()
    for checkout in ("one", "two"):
        (tmp_path / checkout).mkdir()
        (tmp_path / checkout / "a.yaml").write_text(text, encoding="utf-8")
        marks.add(sweep_hashes(load_sweep(tmp_path / checkout / "a.yaml"), tmp_path / checkout / "reports"))
    assert len(marks) == 1
    found, folder = load_sweep(tmp_path / "one" / "a.yaml"), tmp_path / "elsewhere"
    folder.mkdir()
    absolute = hashlib.sha256(str((tmp_path / "one" / "a.yaml").resolve()).encode()).hexdigest()[:16]
    (folder / "same.html").write_text(f'<meta name="sweep" content="{absolute} {"0" * 16}">', encoding="utf-8")
    assert output_name(found, folder) == "same"
