"""Code of one's own that has changed since its results were recorded is told before anything runs."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dse import cli
from dse.numerics.recipe import override
from dse.numerics.techniques.statistics import STATISTICS
from dse.optim.loss_scaling import LOSS_SCALINGS
from dse.recipes import RECIPES
from dse.results.changed_code import changed_code, code_of
from dse.results.record import Record
from dse.results.source_code import code_digest, statements
from dse.results.store import Store
from dse.tasks import own
from dse.tasks.user_module import FILE
from dse.train.loop import run_trial
from dse.trial import Trial, make_task

TASK = '''"""A task of one's own."""

from dataclasses import dataclass
from typing import ClassVar

from factor import FACTOR

from dse.tasks.regression import Regression


@dataclass(frozen=True)
class Scaled(Regression):
    """Regression with another loss."""

    version: ClassVar[int] = 1

    def loss(self, model, batch):
        return FACTOR * super().loss(model, batch)  # the whole change
'''
SWEEP = "tasks: [{./mine.py:Scaled: {training: {steps: 2, batch: 8}}}]\nrecipes: [bf16, mxfp4]\nseeds: 1\n"
SAID = "the code of task mine.py:Scaled has changed since 2 results here were recorded"
STATISTIC = '''
from dataclasses import dataclass
from dse.numerics.techniques.statistics.absmax import AbsMax

@dataclass(frozen=True)
class Mine(AbsMax):
    """The largest magnitude, once more."""
    share = 1.0
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("mine.py", TASK), ("factor.py", "FACTOR = 2.0\n"), ("sweep.yaml", SWEEP)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "other.py").write_text("UNUSED = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_process() -> None:
    """Forgets the modules of tasks, as another process knows none."""
    own._FOUND.clear()
    for name in [name for name in sys.modules if name.startswith(FILE) or name == "factor"]:
        del sys.modules[name]


def said_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    new_process()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["dse", *words, "--results", "results"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (0, None)
    return capsys.readouterr().err


def test_a_task_that_changed_is_told_by_plan_run_and_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("run", "sweep.yaml", "--executor", "local", "--no-track")
    assert "has changed" not in said_by(monkeypatch, capsys, *run)
    (folder / "mine.py").write_text(TASK.replace("another", "its own").replace("the whole", "all of the"))
    (folder / "other.py").write_text("UNUSED = 2\n")
    assert "has changed" not in said_by(monkeypatch, capsys, "plan", "sweep.yaml")  # comments and strangers
    (folder / "factor.py").write_text("FACTOR = 3.0\n")
    assert said_by(monkeypatch, capsys, "plan", "sweep.yaml").count(SAID) == 1
    assert said_by(monkeypatch, capsys, *run).count(SAID) == 1
    said_by(monkeypatch, capsys, "report", "sweep.yaml")
    assert SAID[1:] in (folder / "reports" / "sweep.html").read_text(encoding="utf-8")
    (folder / "mine.py").write_text(TASK.replace("= 1", "= 2"))  # what the line says to do
    assert "has changed" not in said_by(monkeypatch, capsys, "plan", "sweep.yaml")
    (folder / "mine.py").write_text(TASK)
    assert "has changed" not in said_by(monkeypatch, capsys, *run, "--retry", "all")
    assert "has changed" not in said_by(monkeypatch, capsys, "plan", "sweep.yaml")


def test_a_technique_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_statistic.py"

    def trial(text: str) -> Trial:
        file.write_text(text, encoding="utf-8")
        sys.modules.pop("own_statistic", None)
        importlib.invalidate_caches()
        monkeypatch.setitem(STATISTICS, "mine", importlib.import_module("own_statistic").Mine)
        recipe = override(RECIPES["mxfp4"], "forward.statistic", "mine")
        task = make_task("regression", {})
        return Trial(task, replace(task.training(), steps=1, batch=4), recipe, 0)

    first = trial(STATISTIC)
    record = run_trial(first)
    assert {"statistic mine", "statistic absmax", "optimizer adamw"} <= record.code.keys()
    assert changed_code([first], [record]) == ""
    edited = trial(STATISTIC.replace("1.0", "0.5"))
    assert edited.uid == first.uid
    said = changed_code([edited], [record])
    assert said.startswith("the code of statistic mine has changed since 1 result here was recorded")
    assert "arithmetic" in said
    assert "--retry all" in said
    assert changed_code([edited], [replace(record, status="failed")]) == ""
    assert changed_code([edited], [replace(record, code={})]) == "", "records from before digests were kept"
    ours = replace(record, code=record.code | code_of(edited) | {"statistic absmax": "another"})
    assert "statistic absmax" in changed_code([edited], [ours])
    assert changed_code([edited], [replace(ours, versions={"dse": "another release"})]) == ""


def test_records_keep_it_and_older_ones_have_none(tmp_path: Path) -> None:
    task = make_task("regression", {})
    record = run_trial(Trial(task, replace(task.training(), steps=1, batch=4), RECIPES["nvfp4"], 0))
    assert Record.parse(record.line()) == record
    old = replace(record, uid="0" * 16, code={})
    assert '"code"' not in old.line()
    with_both = Store(tmp_path)
    with_both.append(record, old)
    with_both.close()
    assert with_both.compact() == 1
    assert {r.uid: r.code for r in Store(tmp_path).records()} == {record.uid: record.code, old.uid: {}}


def test_comments_and_docstrings_do_not_count() -> None:
    bare = "def f(x):\n    return '# no comment' + x\n\nTEXT = '''a\n\nb'''\n"
    rich = bare.replace("(x):\n", "(x):  # adds\n    '''Adds.\n\n    More.'''\n\n").replace("+ x", "+ x   ")
    assert statements(rich) == statements(bare)
    assert statements(bare) != statements(bare.replace("no comment", "a comment"))
    assert statements(bare) != statements(bare.replace("a\n", "c\n"))
    assert statements("def f(): 'Adds.'; return 1") != statements("def f(): 'Adds.'; return 2")


@pytest.mark.parametrize("name", ["static", "dynamic"])
def test_loss_scaling_is_its_own_code(name: str) -> None:
    """It is named by class: what counts is that class's file, not the file of the class's type."""
    task = make_task("regression", {})
    trial = Trial(task, replace(task.training(), loss_scaling=name), RECIPES["mxfp4"], 0)
    assert code_of(trial)[f"loss scaling {name}"] == code_digest(LOSS_SCALINGS[name])
    assert code_digest(LOSS_SCALINGS[name])
