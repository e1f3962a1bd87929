"""Questions and their answers: the numbers of the rule that made the records, and the trials behind them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dse.commands.ask import ask, compare
from dse.commands.sweeps import report
from dse.errors import CommandFailed, UserError
from dse.report import write_report
from dse.report.questions import FORMS, Study, answer, standing_questions
from dse.results.store import Store
from tests.report.studies import failed, record, records_of, sweep_of

TEXT = """
    tasks: [lm, regression]
    recipes: [mxfp4, nvfp4_plain]
    seeds: 3
    grid: {G.rounding: [nearest_even, stochastic], wgrad.rotation: [none, {hadamard: {size: 16}}]}
"""


def rule(at: Mapping[str, Any]) -> float | None:
    """mxfp4 loses 0.3, nvfp4_plain 0.1; stochastic G gains 0.01, with Hadamard 0.05; a little noise per seed."""
    if at["recipe"] == "bf16":
        return 1.0
    rotated = "hadamard" in str(at["wgrad.rotation"])
    gap = {"mxfp4": 0.3, "nvfp4_plain": 0.1}[at["recipe"]] * (1 + 0.01 * at["seed"])
    return 1.0 + gap - (at["G.rounding"] == "stochastic") * (0.05 if rotated else 0.01) * (1 + 0.1 * at["seed"])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    sweep = sweep_of(tmp_path, TEXT)
    return Study.of(sweep, records_of(sweep, rule))


def said(study: Study, question: str) -> str:
    return answer(study, question).sentence.replace("\u00a0", " ")


def test_the_best_and_the_cheapest(study: Study) -> None:
    best = answer(study, "best")
    assert "nvfp4_plain G.rounding=stochastic wgrad.rotation=hadamard(size=16) loses 4.60 ±" in best.sentence.replace(
        "\u00a0", " "
    )
    assert len(best.trials) == 2 * 2 * 3  # it and the next one, on two tasks
    rows = study.configs[(study.configs["task"] == "all tasks") & ~study.configs["is_baseline"]]
    limit = float(rows["overhead"].min()) + 0.01
    (cheapest,) = rows[rows["overhead"] <= limit]["config"]
    assert cheapest in said(study, f"best under {limit} % overhead")
    assert said(study, "best under 0.001 % overhead on lm").startswith("No configuration under 0.001 % overhead")
    assert said(study, "cheapest within 5 %") == said(study, "cheapest within .05")
    assert said(study, "cheapest within .05").startswith(
        "Cheapest 4-bit configuration within 5 %: nvfp4_plain G.rounding=stochastic"
    )
    assert said(study, "cheapest within .001").startswith("No 4-bit configuration loses at most 0.1 %")


def test_questions_as_people_ask_them(study: Study) -> None:
    for asked, form in (
        ("What is the best recipe?", "best"),
        ("which recipe is best under 20 % overhead on lm", "best under 20 % overhead on lm"),
        ("Which is the cheapest within 5 %?", "cheapest within .05"),
        ("what next?", "what to try next"),
        ("What should I try next?", "what to try next"),
        ("Does stochastic rounding help WITHOUT hadamard?", "does stochastic rounding help without hadamard"),
    ):
        assert said(study, asked) == said(study, form), asked


def test_whether_an_option_helps(study: Study) -> None:
    alone = said(study, "does stochastic rounding help?")
    assert alone.startswith(
        "G.rounding = stochastic instead of nearest_even helps: the improvement lost changes by −3.30 ±"
    )
    together = said(study, "does stochastic rounding help with hadamard")
    assert "helps with wgrad.rotation = hadamard(size=16): the improvement lost changes by −5.50 ±" in together
    assert "by −1.10 ± " in together
    assert "it changes −4.40 ± " in together
    assert "with wgrad.rotation = none: the improvement lost changes by −1.10" in said(
        study, "does stochastic rounding help without hadamard"
    )
    behind = answer(study, "does stochastic help with hadamard").trials
    labels = [study.table.cells[uid].labels for uid in behind]
    assert len(behind) == 2 * 2 * 3
    assert {str(own["G.rounding"]) for own in labels} == {"stochastic"}
    assert said(study, "does nearest_even help").endswith("nearest_even is what others are compared with.")


def test_two_configurations(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tail = "G.rounding=nearest_even wgrad.rotation=none"
    text = said(study, f"is nvfp4_plain {tail} better than mxfp4 {tail}")
    assert f"nvfp4_plain {tail} loses less than mxfp4 {tail}: −20.20 ±" in text
    assert "they differ in recipe (nvfp4_plain against mxfp4)." in text
    results = tmp_path / "results"
    Store(results).append(*study.table.records.values())
    ask(tmp_path / "x.yaml", "best", results)
    out = capsys.readouterr().out
    assert "4.60 ± " in out, "no-break spaces stay out of terminals"
    assert re.search(r"\n  dse why [0-9a-f]{16} --results ", out)
    other = tmp_path / "other"
    other.mkdir()
    sweep_of(other, TEXT.replace("seeds: 3", "seeds: 3\n    name: other").replace("[mxfp4, nvfp4_plain]", "[mxfp4]"))
    compare(str(tmp_path / "x.yaml"), str(other / "x.yaml"), results)
    out = capsys.readouterr().out
    assert "  only in A: nvfp4_plain G.rounding=nearest_even" in out
    assert "  the same trials in both: 4 configurations" in out
    assert "  hypervolume to (" in out
    with pytest.raises(UserError, match=r"^no sweep in .* has both 'a' and 'b'; name its file"):
        compare("a", "b", results)


def test_recipes_of_a_grid_are_compared_where_all_else_is_equal(study: Study, tmp_path: Path) -> None:
    text = said(study, "is nvfp4_plain better than mxfp4")
    assert text.startswith("nvfp4_plain loses less than mxfp4: −20.20 ±")
    assert "the mean of 24 pairs of trials that differ in the recipe alone" in text
    assert said(study, "is mxfp4 better than bf16").startswith("mxfp4 loses more than bf16: +28.65 ±")
    with pytest.raises(
        UserError, match=r"has 4 configurations of 'mxfp4', none of that name alone; for example 'mxfp4 "
    ):
        answer(study, "is mxfp4 better than nvfp4_plain G.rounding=stochastic wgrad.rotation=none")
    Store(tmp_path / "r").append(*study.table.records.values())
    compare("nvfp4_plain", "mxfp4", tmp_path / "r", tmp_path / "x.yaml")


def test_what_is_left_out_of_the_best(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp8, mxfp4, nvfp4]\nseeds: 2\n")
    lost = {"bf16": 0.0, "mxfp8": 0.01, "mxfp4": 0.03}
    study = Study.of(sweep, records_of(sweep, lambda at: None if at["recipe"] == "nvfp4" else 1 + lost[at["recipe"]]))
    best = said(study, "best")
    assert best.startswith("Best 4-bit configuration: mxfp4 loses 3.00")
    assert best.endswith(
        " Left out: 1 wider configuration (mxfp8 loses 1.00 ± 0.00 %) and 1 without a number on every seed and task."
    )
    assert said(study, "is mxfp4 better than nvfp4") == "mxfp4 and nvfp4 cannot be compared: nvfp4: not run yet."


@pytest.mark.usefixtures("few_pictures")
def test_a_sweep_whose_trials_all_failed(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 2\n")
    records = [failed(cell) if not cell.is_baseline else record(cell, 1.0) for cell in sweep.cells]
    study = Study.of(sweep, records)
    assert said(study, "what to try next") == (
        "Try next: first find out why no configuration has a gap to the baseline (2 failed of 4 trials), and run the "
        "failed ones again (--retry failed)."
    )
    page = write_report(sweep, records, tmp_path / "out").read_text(encoding="utf-8")
    assert "in 98 % of draws" not in page
    assert "Without a second seed" not in page


def test_without_any_result_the_input_is_right_and_there_is_no_answer(tmp_path: Path) -> None:
    sweep_of(tmp_path, TEXT)
    for asked in (
        lambda: ask(tmp_path / "x.yaml", "best", tmp_path / "none"),
        lambda: report([tmp_path / "x.yaml"], tmp_path / "none", tmp_path / "out"),
    ):
        with pytest.raises(CommandFailed, match=r"has no results in .* yet.*; run it first: dse run ") as told:
            asked()
        assert told.value.exit_code == 1
    assert not (tmp_path / "out").exists(), "an earlier page would be lost"


def test_one_seed_is_not_called_noise(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "tasks: [lm]\nrecipes: [mxfp4, nvfp4]\nseeds: 1\n")
    study = Study.of(sweep, records_of(sweep, lambda at: {"bf16": 1.0, "mxfp4": 1.3, "nvfp4": 1.1}[at["recipe"]]))
    assert "20.00 points behind (one seed, no interval)." in said(study, "best")
    assert "within the noise" not in said(study, "is mxfp4 better than nvfp4")


def test_what_to_try_next(tmp_path: Path, study: Study) -> None:
    assert said(study, "what to try next").startswith("Try next: ")
    sweep = sweep_of(tmp_path, TEXT)

    def but_one(at: Mapping[str, Any]) -> float | None:
        new = (at["recipe"], at["G.rounding"], "hadamard" in str(at.get("wgrad.rotation")))
        return None if new == ("nvfp4_plain", "stochastic", True) else rule(at)

    text = said(Study.of(sweep, records_of(sweep, but_one)), "what to try next")
    assert text.startswith("Try next: of the 6 trials to run first nvfp4_plain G.rounding=stochastic wgrad.rotation=")


def test_questions_that_are_not_understood(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such question") as told:
        answer(study, "why is the sky blue")
    assert all(" ".join(form.split()) in str(told.value) for form in FORMS)
    with pytest.raises(UserError, match=r"no option 'hadamart'; valid: "):
        answer(study, "does hadamart help")
    with pytest.raises(UserError, match="no task 'image'"):
        answer(study, "best on image")
    sweep = sweep_of(tmp_path, TEXT)
    assert standing_questions(Study.of(sweep, [])) == []
    one = Study.of(sweep, records_of(sweep, lambda at: rule(at) if at["seed"] == 0 else None))
    assert "one seed gives no interval" in said(one, "cheapest within .06")
