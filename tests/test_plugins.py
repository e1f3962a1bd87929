"""Plugins: techniques and recipes of one's own in a sweep, in other processes, and where they are refused."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from dse import plugins
from dse.commands.init import init
from dse.errors import UserError
from dse.numerics.quantizer import Quantizer
from dse.numerics.registry import FAMILIES, to_data
from dse.numerics.techniques.statistics import STATISTICS
from dse.plugins import load_plugins
from dse.recipes import RECIPES
from dse.sweep import Sweep, load_sweep
from dse.train.loop import run_trial

STARTERS = Path(__file__).parents[1] / "dse" / "commands" / "starters"
TECHNIQUE = (STARTERS / "my_technique.py.txt").read_text(encoding="utf-8")
RECIPE = """
from dataclasses import replace
from dse.recipes import RECIPES
from dse.numerics.recipe import override
RECIPES["mine"] = replace(override(RECIPES["nvfp4"], "forward.statistic", "rms"), name="mine")
"""
SWEEP = """
plugins: [./mine.py]
tasks: [{regression: {training: {steps: 3, batch: 8}}}]
recipes: [mine]
grid: {forward.statistic: [absmax, RMS, {rms: {clip: 2.5}}]}
seeds: 1
"""


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What plugins add is forgotten again."""
    torch.set_num_threads(1)
    kept = [(family, dict(family)) for family in [*FAMILIES.values(), RECIPES]]
    monkeypatch.setattr(plugins, "_LOADED", {})
    yield
    for family, before in kept:
        family.clear()  # type: ignore[attr-defined]
        family.update(before)  # type: ignore[attr-defined]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.py").write_text(TECHNIQUE + RECIPE, encoding="utf-8")
    (tmp_path / "study" / "x.yaml").write_text(SWEEP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # a plugin's path counts from the sweep's folder
    return load_sweep(Path("study/x.yaml"))


def test_a_technique_and_a_recipe_in_a_sweep(sweep: Sweep) -> None:
    labels = {str(cell.labels["forward.statistic"]) for cell in sweep.cells if not cell.is_baseline}
    assert labels == {"absmax", "rms", "rms(clip=2.5)"}
    assert len({cell.uid for cell in sweep.cells}) == 4
    records = [run_trial(cell.trial) for cell in sweep.cells]
    assert all(record.status == "ok" for record in records)
    assert len({record.metric for record in records}) == 4, "the technique makes a difference"


def test_another_process_loads_the_plugin(sweep: Sweep, tmp_path: Path) -> None:
    """As a Ray worker does: it gets trials, and has read no sweep."""
    trial = next(cell.trial for cell in sweep.cells if "clip" in cell.config)
    (tmp_path / "trial").write_bytes(pickle.dumps(trial))
    code = (
        "import pickle, pathlib; trial = pickle.loads(pathlib.Path('trial').read_bytes()); "
        "from dse import run_trial; print(trial.uid, run_trial(trial).metric)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == [trial.uid, str(run_trial(trial).metric)]


def test_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point, and by the module's name."""
    (tmp_path / "their_package.py").write_text(TECHNIQUE, encoding="utf-8")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[dse.plugins]\nrms-study = their_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_plugins(["rms-study"]) == ("statistic rms",)
    made: Any = STATISTICS["rms"](clip=3.0)  # type: ignore[call-arg]
    assert pickle.loads(pickle.dumps(made)) == made
    assert to_data(made) == {"rms": {"clip": 3.0}}
    assert load_plugins(["rms-study"]) == ("statistic rms",), "once in a process"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "plugin './mine.py': ./mine.py, line 1: ZeroDivisionError: division by zero"),
        ("\ndef f(:", "plugin './mine.py': ./mine.py, line 2: SyntaxError: invalid syntax"),
        ("import json\njson.loads('{')", "./mine.py, line 2: JSONDecodeError"),
        ("from dse.numerics.techniques.statistics import STATISTIC", "; did you mean 'STATISTICS'?"),
        ("import dse.numerics.techniques.statistic", "; did you mean 'statistics'?"),
        (TECHNIQUE.replace("(frozen=True)", ""), "statistic 'rms' must be a frozen dataclass derived from Statistic"),
        (TECHNIQUE.replace('["rms"]', '["absmax"]'), "there is a statistic 'absmax' already; give yours another name"),
        (TECHNIQUE + RECIPE.replace('name="mine"', 'name="nvfp4"'), "recipe 'mine' calls itself 'nvfp4'"),
        (RECIPE, "unknown statistic 'rms'"),
    ],
)
def test_what_is_refused_leaves_the_registries_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    before = [dict(family) for family in [*FAMILIES.values(), RECIPES]]
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    (tmp_path / "x.yaml").write_text(SWEEP, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_sweep(tmp_path / "x.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/x.yaml:2: plugin './mine.py': ")
    assert [dict(family) for family in [*FAMILIES.values(), RECIPES]] == before


def test_a_plugin_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^plugin './no.py': no file './no.py' \(looked for "):
        load_plugins(["./no.py"])
    with pytest.raises(UserError, match="plugin 'no_such_module': no_such_module: ModuleNotFoundError"):
        load_plugins(["no_such_module"])


def test_init_writes_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init(tmp_path / "plain", task=False, technique=False)
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["sweep.yaml"]
    assert len(load_sweep(tmp_path / "plain" / "sweep.yaml").cells) == 2 * 2 * (3 * 2 + 1)
    both = tmp_path / "both"
    init(both, task=True, technique=True)
    cells = load_sweep(both / "sweep.yaml").cells
    assert {cell.labels["task"] for cell in cells} == {"regression", "lm", "my_task.py:Larger"}
    assert {cell.labels.get("forward.statistic") for cell in cells} >= {"absmax", "rms"}
    assert f"dse run {both / 'sweep.yaml'}" in capsys.readouterr().out
    with pytest.raises(UserError, match="exists already, and is left as it is"):
        init(both, task=False, technique=False)


def test_init_adds_skeletons_to_a_sweep_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("# mine\n", encoding="utf-8")
    init(tmp_path, task=True, technique=False)
    assert sweep.read_text(encoding="utf-8") == "# mine\n"
    assert (tmp_path / "my_task.py").exists()
    assert "- ./my_task.py:Larger" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"my_task\.py exists already, and is left as it is"):
        init(tmp_path, task=True, technique=True)
    assert not (tmp_path / "my_technique.py").exists()


def test_skeletons_are_those_of_the_documentation() -> None:
    docs = STARTERS.parents[2] / "docs"
    assert (STARTERS / "my_task.py.txt").read_text(encoding="utf-8") in (docs / "add-a-task.md").read_text("utf-8")
    body: Callable[[str], str] = lambda text: text[text.index("@dataclass") : text.index("def slope_ops")]  # noqa: E731
    assert body(TECHNIQUE) in (docs / "add-a-technique.md").read_text(encoding="utf-8")


def test_the_page_lists_all_registries() -> None:
    page = (Path(__file__).parents[1] / "docs" / "add-a-technique.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE)
    found = [getattr(import_module(f"dse.numerics.techniques.{folder}"), name) for folder, name in listed]
    families = [family for base, family in FAMILIES.items() if base is not Quantizer]
    assert sorted(map(id, found)) == sorted(map(id, families))
