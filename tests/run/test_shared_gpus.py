"""Several workers on one GPU: what they ask Ray for, played with a GPU that Ray is only told of; what they print."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.results.record import OK, Record
from dse.run.executors.actor import Actor
from dse.run.executors.cluster import SETTINGS, worker_count
from dse.run.executors.ray import RayExecutor
from dse.run.executors.worker_log import FILE
from dse.run.queue.pack_queue import PackQueue
from dse.sweep import Cell, Sweep
from dse.train.options import RunOptions
from dse.trial import Trial


class Slow(Actor):
    """Makes up records that say on which GPU they were made, and when."""

    def run(self, trials: Sequence[Trial], configs: Sequence[str], *_: Any, **__: Any) -> list[Record]:
        import ray

        start = datetime.now(UTC).isoformat()
        print("begins", trials[0].uid)
        time.sleep(1.0)
        print("ends", trials[0].uid)
        facts = {"gpus": ray.get_runtime_context().get_accelerator_ids()["GPU"], "end": datetime.now(UTC).isoformat()}
        return [
            Record(t.uid, "b", OK, "t", "r", name, t.seed, {}, started=start, pack=facts)
            for t, name in zip(trials, configs, strict=True)
        ]


@pytest.fixture
def _one_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    import ray

    ray.init(
        address="local",
        num_cpus=3,
        num_gpus=1,
        object_store_memory=128 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_one_gpu")
def test_two_workers_share_a_gpu(sweep: Sweep, tmp_path: Path) -> None:
    found: list[tuple[Cell, Record]] = []
    executor = RayExecutor(RunOptions(device="cuda", gpus=0.5, results=tmp_path), actor=Slow, max_width=1)
    executor.run(PackQueue(sweep.cells, 1), found.extend, lambda *_: None, threading.Event())
    assert sorted(record.uid for _, record in found) == sorted(cell.uid for cell in sweep.cells)
    assert {tuple(record.pack["gpus"]) for _, record in found} == {("0",)}
    spans = sorted((record.started, record.pack["end"]) for _, record in found)
    at_once = [sum(start <= moment <= end for start, end in spans) for moment, _ in spans]
    assert max(at_once) == 2, "two at a time on the one GPU, and not three"
    text = (tmp_path / FILE).read_text(encoding="utf-8")  # what they have printed is here, too
    for cell in sweep.cells:
        assert text.count(f": begins {cell.uid}\n") == text.count(f": ends {cell.uid}\n") == 1


def test_how_many_workers_fit() -> None:
    two = {"CPU": 64.0, "GPU": 2.0}
    assert [worker_count(RunOptions(device="cuda", gpus=share), two) for share in (1.0, 0.5, 0.4, 0.25, 0.1)] == [
        2,
        4,
        4,
        8,
        20,
    ]
    assert worker_count(RunOptions(device="cuda", gpus=0.1), {"CPU": 6.0, "GPU": 2.0}) == 6  # a processor each
    assert worker_count(RunOptions(device="cpu", gpus=0.5), two) == 64
    assert worker_count(RunOptions(device="cuda", gpus=0.5, workers=3), two) == 3
    with pytest.raises(UserError, match=r"Ray has 2 GPUs, too few for 5 workers on cuda, 0\.5 of one each"):
        worker_count(RunOptions(device="cuda", gpus=0.5, workers=5), two)
