"""The package as a wheel and as a checkout: what is in it, its names, and a user's files of the same names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from dse.results.record import OK
from dse.results.store import Store

ROOT = Path(__file__).parents[1]
BUILT_FROM = ("dse", "tasks", "pyproject.toml", "setup.py", "README.md", "LICENSE")
INSTALLED = pytest.param("installed", marks=pytest.mark.slow)
DOCUMENTED = re.findall(
    r"^```python\n(# my_task\.py\n.*?)^```",
    (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)[0]
"""The task file of docs/add-a-task.md, which imports from ``tasks``."""

SWEEP = """
tasks:
  - regression
  - ./my_task.py:{task}
recipes: [bf16, nvfp4]
seeds: 1
training: {{steps: 2, batch: 4, eval_every: 0}}
"""
BESIDE_THE_USERS = """
from dataclasses import dataclass
import os
import dse
import tasks
from dse.tasks.regression import Regression

assert tasks.MINE == 7
assert os.path.dirname(os.path.dirname(dse.__file__)) == {place!r}, dse.__file__


@dataclass(frozen=True)
class Mine(Regression):
    version = 1
"""


def copied(folder: Path) -> Path:
    """What the package is built from, away from the build files of the checkout."""
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel, and nothing of what it depends on; made without a network."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    source.mkdir()
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, copied(source))
    (wheel,) = folder.glob("*.whl")
    pip("install", "--no-deps", "--no-index", "--target", folder / "site", wheel)
    return folder / "site"


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Path:
    """The folder to import from, of ``checkout`` or ``installed``."""
    found = ROOT if request.param == "checkout" else request.getfixturevalue("site")
    assert isinstance(found, Path)
    return found


def python(place: Path, folder: Path, *arguments: str) -> str:
    """The output of Python in ``folder``, with the package from ``place``."""
    if place == ROOT and arguments[0] == "-c":
        return forked(folder, arguments[1])
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def forked(folder: Path, code: str) -> str:
    """The output of ``python -c CODE`` in ``folder``, with the checkout, in a process that has torch already."""
    process = with_torch()
    assert process.stdin is not None
    assert process.stdout is not None
    begin = f"import os, sys\nassert 'dse' not in sys.modules\nos.chdir({str(folder)!r})\nsys.path[0] = ''\n"
    process.stdin.write(json.dumps(["-c", begin + code]) + "\n")
    process.stdin.flush()
    status, out, err = json.loads(process.stdout.readline())
    assert status == 0, out + err
    return str(out)


@cache
def with_torch() -> subprocess.Popen[str]:
    """The process that forks; it ends when this one does, which closes its input."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.forked", "torch"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")


@pytest.mark.slow
def test_the_wheel_has_every_file_under_one_name(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"dse", "bin"}
    expected = {path.relative_to(ROOT) for path in (ROOT / "dse").rglob("*.py")}
    expected |= {Path("dse") / path.relative_to(ROOT) for path in (ROOT / "tasks").rglob("*.py")}
    for folder in ("report/templates", "commands/starters"):
        expected |= {path.relative_to(ROOT) for path in (ROOT / "dse" / folder).iterdir()}
    expected |= {path.relative_to(ROOT) for path in (ROOT / "dse" / "cost").glob("*/*.yaml")}
    expected.add(Path("dse/py.typed"))
    found = {path.relative_to(site) for path in (site / "dse").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert found == expected
    assert any(path.suffix == ".j2" for path in found)


@pytest.mark.parametrize("place", ["checkout", INSTALLED], indirect=True)
def test_tasks_have_one_module_under_two_names(place: Path, tmp_path: Path) -> None:
    code = (
        "import sys, dse, dse.tasks, tasks, tasks.base, dse.tasks.base\n"
        "from tasks.nets.attention import Core\n"
        "assert tasks is dse.tasks and tasks.base is dse.tasks.base\n"
        "assert Core.__module__ == 'dse.tasks.nets.attention'\n"
        "print(dse.__file__, dse.tasks.__file__, sep='\\n')"
    )
    installed = place != ROOT
    tasks = place / "dse" / "tasks" if installed else ROOT / "tasks"
    assert python(place, tmp_path, "-c", code).splitlines() == [
        str(place / "dse" / "__init__.py"),
        str(tasks / "__init__.py"),
    ]


@pytest.mark.parametrize("place", ["checkout", INSTALLED], indirect=True)
def test_a_folder_tasks_without_python_files_hides_nothing(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "data.csv").touch()
    code = "import dse\nfrom tasks.base import Task\nprint(Task.__module__)"
    assert python(place, tmp_path, "-c", code).strip() == "dse.tasks.base"


@pytest.mark.parametrize("place", ["checkout", INSTALLED], indirect=True)
@pytest.mark.parametrize("first", ["import dse.tasks, tasks", "import tasks, dse.tasks"])
def test_a_file_tasks_of_the_users_own_is_theirs(place: Path, tmp_path: Path, first: str) -> None:
    (tmp_path / "tasks.py").write_text("MINE = 7\n", encoding="utf-8")
    code = f"{first}\nassert tasks.MINE == 7 and 'regression' in dse.tasks.TASKS\nprint(tasks.__file__)"
    assert Path(python(place, tmp_path, "-c", code).strip()).resolve() == (tmp_path / "tasks.py").resolve()


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ["checkout", INSTALLED], indirect=True)
@pytest.mark.parametrize("beside", [True, False], ids=["their tasks.py", "from tasks.base"])
def test_a_sweep_runs(place: Path, tmp_path: Path, executor: str, beside: bool) -> None:
    """Beside a file ``tasks.py`` that the user's task imports; or with a task that imports from ``tasks``, ours."""
    if beside:
        (tmp_path / "tasks.py").write_text("MINE = 7\n", encoding="utf-8")
    task = BESIDE_THE_USERS.format(place=str(place)) if beside else DOCUMENTED
    (tmp_path / "my_task.py").write_text(task, encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(task="Mine" if beside else "Larger"), encoding="utf-8")
    options = ["--executor", executor, "--workers", "1", "--device", "cpu", "--no-track"]
    python(place, tmp_path, "-m", "dse", "run", "sweep.yaml", *options)
    records = Store(tmp_path / "results").records()
    assert [record.error for record in records] == [None] * 4
    assert {record.status for record in records} == {OK}
    assert {record.task for record in records} == {"regression", f"my_task.py:{'Mine' if beside else 'Larger'}"}
