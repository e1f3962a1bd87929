"""A task of one's own, in one file, named by its import path; and `quantize_` on somebody else's model."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dse.errors import UserError
from dse.nn.linear import QuantizedLinear
from dse.nn.quantize import quantize_, set_clock
from dse.recipes import RECIPES
from dse.sweep.cells.expansion import load_sweep
from dse.sweep.definition.spec import read_spec
from dse.tasks import TASKS
from dse.tasks.own import find
from dse.train.loop import run_pack, run_trial
from dse.trial import Trial, make_task

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"
CODE = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
NAME = "my_task.py:Larger"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    (tmp_path / "my_task.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def test_the_file_says_its_name() -> None:
    assert CODE.startswith("# my_task.py\n")


def test_from_a_sweep_to_results(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = folder / "sweep.yaml"
    sweep.write_text(
        "tasks:\n  - ./my_task.py:Larger\n  - ./my_task.py:Larger: {width: 32, training: {steps: 3}}\n"
        "recipes: [bf16, nvfp4]\nseeds: 1\ntraining: {steps: 6, batch: 8}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(folder.parent)  # the path counts from the sweep's folder
    cells = load_sweep(sweep).cells
    assert len(cells) == 4
    assert {cell.trial.task.name for cell in cells} == {NAME}
    assert len({cell.trial.uid for cell in cells}) == 4
    trials = [cell.trial for cell in cells if not cell.trial.spec["options"]]
    assert trials[0].spec["task"] == NAME
    assert trials[0].spec["task_version"] == 1
    for record, trial in zip(run_pack(trials), trials, strict=True):
        assert record.error is None
        assert record.task == NAME
        assert record.metric == run_trial(trial).metric
    again = Trial.from_spec(trials[1].spec, "nvfp4")
    assert again.uid == trials[1].uid


def test_the_version_and_the_path_are_the_identity(folder: Path) -> None:
    task = find("./my_task.py:Larger", folder)()
    trial = Trial(task, task.training(), RECIPES["bf16"], 0)
    (folder / "sub").mkdir()
    (folder / "sub" / "my_task.py").write_text(
        CODE.replace("version: ClassVar[int] = 1", "version: ClassVar[int] = 2"), encoding="utf-8"
    )
    other = find("./my_task.py:Larger", folder / "sub")()
    elsewhere = find("sub/my_task.py:Larger", folder)()
    uids = {replace(trial, task=each).uid for each in (task, other, elsewhere)}
    assert len(uids) == 3
    assert replace(trial, task=find(NAME, folder)()).uid == trial.uid


def test_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own_package").mkdir()
    (folder / "own_package" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "own_package" / "larger.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(folder)
    task = make_task("own_package.larger:Larger", {"width": 16})
    assert task.name == "own_package.larger:Larger"
    assert "own_package.larger:Larger" in TASKS
    assert "larger" not in TASKS
    with pytest.raises(KeyError):
        TASKS["larger"]


def test_copies_and_other_processes(folder: Path) -> None:
    task = find("./my_task.py:Larger", folder)(width=16)
    for again in (copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert again == task
    (folder / "task.pickle").write_bytes(pickle.dumps(task))
    code = "import pickle, pathlib; t = pickle.loads(pathlib.Path('task.pickle').read_bytes()); print(t.name, t.width)"
    root = str(Path(__file__).parents[2])
    script = f"import sys, os; sys.path.insert(0, {root!r}); {code}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.split() == [NAME, "16"]


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ("", "./my_tusk.py:Larger", "no file './my_tusk.py' (looked for"),
        ("", "./my_task.py:Large", "has no 'Large'; did you mean 'Larger'?"),
        ("", "no_such_module:Larger", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0\n", "./my_task.py:Larger", f"my_task.py, line {len(CODE.splitlines()) + 1}: ZeroDivisionError"),
        ("", "./my_task.py:Pairs", "no class derived from tasks.Task"),
        ("def held_out→def held", "./my_task.py:Larger", "does not define held_out"),
        ("(frozen=True)→", "./my_task.py:Larger", "frozen dataclass"),
        ("numbers: int = 31→numbers: int", "./my_task.py:Larger", "all have defaults"),
        ("    version: ClassVar[int] = 1→    _v: ClassVar[int] = 1", "./my_task.py:Larger", "whole number `version`"),
    ],
)
def test_mistakes_are_one_line(folder: Path, change: str, name: str, words: str) -> None:
    if change:
        old, _, new = change.rpartition("→")
        code = CODE.replace(old, new) if old else CODE + change
        (folder / "my_task.py").write_text(code, encoding="utf-8")
    sweep = folder / "sweep.yaml"
    sweep.write_text(f"tasks:\n  - {name}\nrecipes: [bf16]\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_spec(sweep)
    assert "\n" not in str(error.value)
    assert f"{sweep.name}:2: " in str(error.value)
    assert words in str(error.value)


def test_a_hugging_face_llama() -> None:
    """Made from a config, without a download; every linear but the head is quantized, and it trains."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    plain = transformers.LlamaForCausalLM(config)
    model = quantize_(copy.deepcopy(plain), RECIPES["nvfp4"], exempt=("lm_head",))
    names = [name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    assert len(names) == 2 * 7
    assert "model.layers.1.self_attn.k_proj" in names
    assert model.state_dict().keys() == plain.state_dict().keys()
    tokens = torch.randint(64, (4, 16))
    with torch.no_grad():
        assert not torch.equal(model(tokens).logits, plain(tokens).logits)
        same = quantize_(copy.deepcopy(plain), RECIPES["fp32"])
        torch.testing.assert_close(same(tokens).logits, plain(tokens).logits, rtol=1e-5, atol=1e-5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(12):
        set_clock(model, 0, step)
        loss = model(tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
