"""Sweeps written in the tests themselves."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from dse.errors import UserError
from dse.sweep import Sweep, load_sweep


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes x.yaml into an empty current folder and gives its relative path, as a user would type it."""
    monkeypatch.chdir(tmp_path)

    def inner(text: str) -> Path:
        path = Path("x.yaml")
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return inner


@pytest.fixture
def sweep(write: Callable[[str], Path]) -> Callable[[str], Sweep]:
    """The sweep that a text describes."""
    return lambda text: load_sweep(write(text))


@pytest.fixture
def refusal(write: Callable[[str], Path]) -> Callable[[str], str]:
    """The one line that a text is refused with."""

    def inner(text: str) -> str:
        with pytest.raises(UserError) as caught:
            load_sweep(write(text))
        line = str(caught.value)
        assert "\n" not in line
        return line

    return inner
