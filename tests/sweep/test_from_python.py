"""A sweep made in Python is the sweep of the file that it writes."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.sweep import from_python, load_sweep
from dse.sweep.from_python import MARK, make_sweep

KEYS = {
    "tasks": ["lm", {"image": {"size": "small", "training": {"steps": 50}}}],
    "recipes": ["mxfp4", {"soft": {"base": "mxfp4", "G.rounding": "stochastic"}}],
    "seeds": (0, 7),
    "grid": {"*.block": [16, 32], "training.lr": [1e-3, 3e-5], "wgrad.rotation": ["none", {"hadamard": {"size": 32}}]},
}
TEXT = """
tasks: [lm, {image: {size: small, training: {steps: 50}}}]
recipes: [mxfp4, soft: {base: mxfp4, G.rounding: stochastic}]
seeds: [0, 7]
grid: {'*.block': [16, 32], training.lr: [1e-3, 3e-5], wgrad.rotation: [none, {hadamard: {size: 32}}]}
"""


def test_examples() -> None:
    found = doctest.testmod(from_python)
    assert found.attempted
    assert not found.failed


def test_python_and_yaml_make_the_same_cells(tmp_path: Path) -> None:
    (tmp_path / "written.yaml").write_text(TEXT, encoding="utf-8")
    made, written = make_sweep(tmp_path / "new" / "made.yaml", **KEYS), load_sweep(tmp_path / "written.yaml")
    assert [(c.uid, dict(c.labels)) for c in made.cells] == [(c.uid, dict(c.labels)) for c in written.cells]
    assert made.cells
    again = load_sweep(made.path)
    assert (again.name, again.text, again.cells) == ("made", made.text, made.cells)


def test_it_replaces_its_own_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    make_sweep(path, tasks=["lm"], recipes=["mxfp4"])
    assert len(make_sweep(path, tasks=["lm"], recipes=["mxfp4"], seeds=1).cells) == 2
    path.write_text(path.read_text(encoding="utf-8").removeprefix(MARK), encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="does not replace"):
        make_sweep(path, tasks=["lm"], recipes=["nvfp4"])
    assert path.read_text(encoding="utf-8") == before


def test_mistakes_are_errors_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bad\.yaml:\d+: .*did you mean 'grid'"):
        make_sweep(tmp_path / "bad.yaml", tasks=["lm"], recipes=["mxfp4"], gird={})
    with pytest.raises(UserError, match="plain data"):
        make_sweep(tmp_path / "object.yaml", tasks=[object()], recipes=["mxfp4"])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        make_sweep(tmp_path / "file" / "sweep.yaml", tasks=["lm"], recipes=["mxfp4"])
