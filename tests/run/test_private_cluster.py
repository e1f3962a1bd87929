"""A private Ray cluster: nobody else can reach it, or get in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dse.run.executors.cluster import cluster
from dse.run.executors.private_cluster import private_cluster
from dse.train.options import RunOptions
from tests.run.listening import is_loopback, listening

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with private_cluster():
        first = os.environ["RAY_AUTH_TOKEN"]
        assert (len(first), os.environ["RAY_AUTH_MODE"]) == (64, "token")
    assert not any(name in os.environ for name in VARIABLES)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with private_cluster():
        assert (os.environ["RAY_AUTH_TOKEN"], os.environ["RAY_AUTH_MODE"]) == ("mine", "disabled")
    assert (os.environ["RAY_AUTH_TOKEN"], os.environ["RAY_AUTH_MODE"]) == ("mine", "disabled")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="listening sockets are read from /proc")
def test_a_private_cluster_listens_on_loopback_and_asks_for_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with cluster(RunOptions("ray", 1)):
        import ray

        assert ray.get(ray.remote(lambda: os.environ["RAY_AUTH_MODE"]).remote()) == "token"
        found = listening(os.getpid())
        assert "gcs_server" in {name for names in found.values() for name in names}
        assert {address: names for address, names in found.items() if not is_loopback(address)} == {}
        folder = Path(ray._private.worker._global_node.get_temp_dir_path()).parent
        assert folder.name.startswith("dse-ray-")
        assert folder.stat().st_mode & 0o777 == 0o700
        address = ray.get_runtime_context().gcs_address
        code = f"import ray; ray.init(address={address!r}, log_to_driver=False); print('inside')"
        stranger = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
        done = subprocess.run([sys.executable, "-c", code], env=stranger, capture_output=True, timeout=120, check=False)
        assert done.returncode != 0
        assert b"inside" not in done.stdout
