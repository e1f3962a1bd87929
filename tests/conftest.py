"""Settings shared by all tests: one thread, and no library that phones home or writes its own logs.

The environment is set before anything heavy is imported, so that child processes (Ray workers, spawned pools, the
command line) inherit it.
"""

import gc
import os
import sys

import pytest

SETTINGS = {
    "OMP_NUM_THREADS": "1",  # one and two threads are not bit-equal, and the tests already run in parallel
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
os.environ.update(SETTINGS)


@pytest.hookimpl(tryfirst=True)  # before -m is read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is exhaustive is slow."""
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """All modules and tests live to the end: garbage collections, which would look at them each time, pass them by."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Start every test with one torch thread, without importing torch for tests that do not need it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def short_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of the diffusion task's sampler instead of twenty, for tests that compare and do not grade."""
    from dse.tasks import diffusion

    monkeypatch.setattr(diffusion, "STEPS", 3)
