"""Whose own task calls what depends on an element's place is told; this project's tasks do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.notices import cautions
from dse.sweep import load_sweep
from dse.tasks import TASKS, Task
from dse.tasks.own import find
from dse.train import placement
from dse.train.loop import run_pack
from dse.train.options import RunOptions
from dse.train.placement import FUNCTIONS, _watched, depends_on_place
from dse.trial import Trial
from tests.processors.operations import DEPENDENT
from tests.processors.workloads import REPEATED, TASKS_OF_ALL_NETS, shrink
from tests.tasks.test_own import CODE, NAME

LAYERS = "nn.Linear(2 * w, 2 * w), nn.ReLU(), nn.Linear(2 * w, n)"


def program(task: Task[Any]) -> TrainStep:
    training = replace(task.training(), steps=1, batch=2)
    return TrainStep([Trial(task, training, RECIPES["nvfp4"], seed) for seed in (0, 1)], task.load(), "cpu", False)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in REPEATED)) for name in TASKS_OF_ALL_NETS]
)
def test_the_tasks_here_use_none_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    assert _watched(program(TASKS_OF_ALL_NETS[name])) == []


def test_the_tasks_here_are_not_watched_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would cost a loss and a measure, for what the test above says."""
    monkeypatch.setattr(placement, "_watched", lambda _: pytest.fail("watched"))
    assert depends_on_place(program(TASKS["regression"]())) == []


class Odd(nn.Module):
    """Everything that is noticed, and what is not."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.own = what, nn.Parameter(torch.eye(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        calls = {
            "sigmoid": lambda: x.sigmoid(),
            "silu": lambda: nn.SiLU()(x),
            "gelu": lambda: F.gelu(x, approximate="tanh"),
            "elu": lambda: F.elu(x.clone(), inplace=True),
            "pow": lambda: x.abs() ** 0.3,
            "rpow": lambda: 2.0**x,
            "exp2": lambda: torch.exp2(x),
            "matmul": lambda: x @ self.own,
            "linear": lambda: F.linear(x, self.own),
            "einsum": lambda: torch.einsum("bi,ij->bj", x, self.own),
            "scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(x[None], x[None], x[None])[0],
            "": lambda: (x**2).tanh().exp().softmax(-1).sqrt() + x.pow(3) + torch.eye(4)[0] @ torch.eye(4),
        }
        return calls[self.what]()


@pytest.mark.parametrize(
    "what", ["sigmoid", "silu", "gelu", "elu", "pow", "rpow", "exp2", "matmul", "linear", "einsum",
             "scaled_dot_product_attention", ""]
)  # fmt: skip
def test_what_is_noticed(what: str) -> None:
    from dse.train.placement import _CallWatcher

    model = Odd(what)
    stack = torch.randn(3, 5, 4)
    with _CallWatcher() as watch, torch.no_grad():
        torch.vmap(lambda own, x: torch.func.functional_call(model, {"own": own}, x))(torch.randn(3, 4, 4), stack)
    assert what in watch.found if what else watch.found == set()


def test_it_knows_what_the_probe_knows() -> None:
    assert set(DEPENDENT) - {"pow"} <= FUNCTIONS


def test_a_run_says_it_once(tmp_path: Path) -> None:
    (tmp_path / "my_task.py").write_text(CODE.replace("nn.ReLU()", "nn.SiLU()"), encoding="utf-8")
    sweep = tmp_path / "own.yaml"
    sweep.write_text(
        "tasks: [./my_task.py:Larger]\nrecipes: [bf16, nvfp4]\nseeds: 2\ntraining: {steps: 2, batch: 4}\n",
        encoding="utf-8",
    )
    summary = run_sweep(
        load_sweep(sweep), Store(tmp_path / "results"), RunOptions("local", track=False, progress=False)
    )
    (note,) = summary.notes
    assert note.startswith(f"task {NAME}: silu may give a trial other last bits in a pack than alone")
    assert "docs/add-a-task.md" in note


def test_nothing_is_said_without_reason(tmp_path: Path) -> None:
    assert LAYERS in CODE
    (tmp_path / "my_task.py").write_text(CODE, encoding="utf-8")
    task = find("./my_task.py:Larger", tmp_path)()
    trial = Trial(task, replace(task.training(), steps=2, batch=4), RECIPES["nvfp4"], 0)
    (record,) = run_pack([trial])
    assert "depends_on_place" not in record.pack
    assert cautions([record]) == []
