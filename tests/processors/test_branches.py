"""The equality of members and trials alone, once more on every route that the libraries can take on this machine.

``make test`` takes a few tests over the routes that differ most, ``make test-processors`` all of both.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processors.branches import ALL, MOST, Branch, branch, environment, missing

ROOT = Path(__file__).parents[2]
EVERYTHING = (
    "tests/processors/test_operations.py",
    "tests/processors/test_odd_batches.py",
    "tests/pack",
    "tests/tasks/test_packs.py",
    "tests/tasks/test_every_size.py",
    "tests/tasks/test_zoo.py",
    "tests/contract/test_behavior.py",
    "tests/techniques",
    "tests/kernels",
    "tests/test_alignment.py",
    "tests/test_attention.py",
    "tests/test_convolution.py",
    "tests/test_sqrt.py",
)
"""Whatever says that two routes to a number give the same bits."""


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("makers")


def child(one: Branch, libraries: Path, *command: str | Path) -> None:
    if why := missing(one):
        pytest.skip(why)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(one, libraries),
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, f"{one or 'as it is'}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("one", [MOST[0], pytest.param(MOST[1], marks=pytest.mark.exhaustive), MOST[2]], ids=str)
def test_members_are_trials_alone(one: Branch, libraries: Path) -> None:
    """A script of a few seconds: products, functions, roots, Adam's kernel, odd batches."""
    child(one, libraries, Path(__file__).with_name("probe.py"))


@pytest.mark.slow
@pytest.mark.processors
@pytest.mark.parametrize("one", ALL, ids=str)
def test_every_equality(one: Branch, libraries: Path) -> None:
    command = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow or exhaustive", *EVERYTHING)
    child(one, libraries, *command)


def test_the_maker_is_told(libraries: Path) -> None:
    code = "import ctypes; assert ctypes.CDLL(None).mkl_serv_intel_cpu_true() == 0"
    child(branch("other"), libraries, "-c", code)
