"""Asking for what is not there is one line, at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch

from dse.errors import UserError
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.executors.cluster import importable, worker_count
from dse.run.executors.devices import processors
from dse.sweep import Sweep
from dse.train.options import RunOptions


@pytest.mark.parametrize("executor", ["local", "ray"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu(sweep: Sweep, tmp_path: Path, executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    store = Store(tmp_path / "results")
    with pytest.raises(UserError, match=r"device cuda: torch .* finds no GPU on this machine"):
        run_sweep(sweep, store, RunOptions(executor, device="cuda", track=False, progress=False))
    with pytest.raises(UserError, match="unknown device 'gpu'; valid: cpu, cuda"):
        run_sweep(sweep, store, RunOptions(executor, device="gpu", track=False, progress=False))
    assert store.done() == {}


def test_a_cluster_that_is_not_there(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(UserError, match=r"^RAY_ADDRESS=127\.0\.0\.1:\d+ cannot be reached: .*`--executor local`"):
        run_sweep(sweep, Store(tmp_path / "results"), RunOptions("ray", track=False, progress=False))


def test_a_cluster_that_is_too_small() -> None:
    resources = {"CPU": 4.0, "memory": 1.0}
    assert worker_count(RunOptions(), resources) == 4
    assert worker_count(RunOptions(workers=3), resources) == 3
    assert worker_count(RunOptions(device="cuda"), resources | {"GPU": 2.0}) == 2
    with pytest.raises(UserError, match="Ray has 4 CPUs, too few for 5 workers on cpu"):
        worker_count(RunOptions(workers=5), resources)
    with pytest.raises(UserError, match="Ray has 0 GPUs, too few for 1 workers on cuda"):
        worker_count(RunOptions(device="cuda"), resources)


def test_processors() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)


def test_workers_can_import_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import dse

    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    with importable():
        assert os.environ["PYTHONPATH"] == f"{Path(dse.__file__).parents[1]}{os.pathsep}/elsewhere"
    assert os.environ["PYTHONPATH"] == "/elsewhere"
    monkeypatch.delenv("PYTHONPATH")
    with importable():
        assert "PYTHONPATH" in os.environ
    assert "PYTHONPATH" not in os.environ
