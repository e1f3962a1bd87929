"""A small search, its store, and trials that take no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dse.results.store import Store
from dse.sweep import Sweep, load_sweep
from dse.train import loop, width
from tests.run.oracle import fake_pack
from tests.run.search.common import SEARCH


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Sweep]:
    def write(text: str = SEARCH) -> Sweep:
        path = tmp_path / "hunt.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep(path)

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that take no time; their metric is a function of their content."""
    monkeypatch.setattr(loop, "run_pack", fake_pack)
    monkeypatch.setattr(width, "measured_width", lambda trials, *_: len(trials))
