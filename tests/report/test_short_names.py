"""Short names in sentences: each its own, whole ones on hover, and what a page's configurations share is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dse.report.analysis.short_names import ShortNames, few, own_names
from dse.report.analysis.tidy import TidyTable, tabulate
from dse.report.sections.page_frame import shortener
from tests.report.studies import sweep_of

FINETUNED = "lm(text=tinyshakespeare, size=small, tokens=bytes, steps=200, lr=0.0002, start=bf16(text=stdlib))"


def named(*tasks: str) -> dict[str, str]:
    return ShortNames(TidyTable(None, {}, list(tasks), [], "", {}, {}, {})).tasks  # type: ignore[arg-type]


def test_tasks_by_the_fewest_options_that_tell_them_apart() -> None:
    assert named("lm(text=tinyshakespeare)", "lm(text=tinyshakespeare, size=0.5M)", FINETUNED, "regression") == {
        "lm(text=tinyshakespeare)": "lm",
        "lm(text=tinyshakespeare, size=0.5M)": "lm 0.5M",
        FINETUNED: "lm finetuning",
    }
    assert named("lm(size=a, lr=0.1)", "lm(size=a, lr=0.2)") == {
        "lm(size=a, lr=0.1)": "lm lr=0.1",
        "lm(size=a, lr=0.2)": "lm lr=0.2",
    }
    two = named("lm(size=a, net=x)", "lm(size=b, net=x)", "lm(size=a, net=y)")
    assert list(two.values()) == ["lm a x", "lm b x", "lm a y"]
    two = named("lm(lr=1, tokens=bytes, start=bf16(text=a))", "lm(lr=1, tokens=bytes, start=bf16(text=b))")
    assert list(two.values()) == ["lm finetuning start=bf16(text=a)", "lm finetuning start=bf16(text=b)"]


@pytest.fixture
def table(tmp_path: Path) -> TidyTable:
    text = """
        tasks: [{lm: {size: tiny}}, {lm: {size: small}}]
        recipes: [mxfp4, nvfp4_plain]
        seeds: 1
        grid: {G.rounding: [stochastic], wgrad.rotation: [none, hadamard]}
    """
    return tabulate(sweep_of(tmp_path, text), [])


def test_what_all_configurations_share_is_left_out(table: TidyTable) -> None:
    names = ShortNames(table)
    assert names.configs["mxfp4 G.rounding=stochastic wgrad.rotation=none"] == "mxfp4 wgrad.rotation=none"
    assert len(set(names.configs.values())) == 4
    assert "bf16" not in names.configs


def test_whole_names_are_hints(table: TidyTable) -> None:
    short = shortener(ShortNames(table))
    whole = "mxfp4 G.rounding=stochastic wgrad.rotation=none"
    task = table.tasks[-1]
    made = str(short(f"<b> {whole} on {task}."))
    assert made == (
        f'&lt;b&gt; <abbr title="{whole}">mxfp4 wgrad.rotation=none</abbr> on '
        f'<abbr title="{task}">{ShortNames(table).tasks[task]}</abbr>.'
    )
    assert str(shortener(ShortNames(replace(table, tasks=["lm"], cells={})))("lm & x")) == "lm &amp; x"


def test_a_few_names() -> None:
    assert few(["a", "b", "c"], 2) == ["a", "b", "1 more"]
    assert few(["a", "b"], 2) == ["a", "b"]
    rows = [{"recipe": "a", "config": "a x=1"}, {"recipe": "a", "config": "a x=2"}, {"recipe": "b", "config": "b x=1"}]
    assert own_names(rows) == {"a x=1": "a x=1", "a x=2": "a x=2", "b x=1": "b"}
