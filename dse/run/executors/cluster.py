"""Starts a local Ray, or joins a cluster, with settings that avoid known problems of Ray."""

from __future__ import annotations

import os
import site
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from dse.errors import UserError
from dse.run.executors.devices import check_device, processors
from dse.run.executors.private_cluster import private_cluster, session_folder
from dse.run.interrupt import handlers_kept, shielded
from dse.train.options import RunOptions
from dse.version import IMPORT_ROOT

SETTINGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would restart its workers through uv, and hang
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns about a default that will change
}
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
"""Arguments of ``ray.init`` by which Ray prints errors alone."""
START_TIMEOUT = 180.0
"""Seconds after which it is an error that no actor starts: Ray waits for ever for resources that others hold."""
_OBJECT_STORE = 128 * 2**20  # bytes; trials and records are small


@contextmanager
def cluster(options: RunOptions) -> Iterator[int]:
    """Context with a private local Ray, or the cluster that RAY_ADDRESS names; gives the number of actors to run.

    Ray is stopped at the end unless it ran before. Raises UserError when the cluster cannot be reached, or lacks what
    was asked for: Ray itself would wait for ever.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    mine = not ray.is_initialized()
    own = mine and os.environ.get("RAY_ADDRESS", "local") == "local"
    with private_cluster() if own else nullcontext():
        if mine:
            with handlers_kept(), shielded():  # Ray installs handlers of its own, over ours
                _start_ray(options)
        try:
            yield worker_count(options, ray.cluster_resources())
        finally:
            if mine:
                ray.shutdown()


def needs_gpu(options: RunOptions) -> bool:
    """Whether each actor needs a GPU, or a share of one."""
    return options.device.startswith("cuda")


def check_started(since: float) -> None:
    """Raises UserError when no actor has started for too long. ``since``: on the clock ``time.monotonic``."""
    if time.monotonic() - since > START_TIMEOUT:
        raise UserError(
            f"no Ray worker has started in {START_TIMEOUT:.0f} s; something else may hold the processors or GPUs"
            " (`ray status` shows it)"
        )


def _start_ray(options: RunOptions) -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        if address != "local":
            _check_reachable(address)
            ray.init(address=address, **QUIET)
            return
        check_device(options.device)
        with importable():
            folder = session_folder()
            ray.init(
                address="local",
                num_cpus=options.workers or processors(),
                object_store_memory=_OBJECT_STORE,
                include_dashboard=False,
                _temp_dir=folder,
                **QUIET,
            )
    except (OSError, RuntimeError, ValueError) as error:
        where = "Ray does not start" if address == "local" else f"RAY_ADDRESS={address} cannot be reached"
        raise UserError(f"{where}: {str(error).strip().splitlines()[0]}; `--executor local` needs no Ray") from None


def _check_reachable(address: str) -> None:
    """Raises OSError when nobody listens at host:port or ray://host:port: Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def importable() -> Iterator[None]:
    """Context in which a local Ray starts workers that import this very `dse` and `tasks`, installed or not.

    They inherit the environment of the process that starts Ray; `sys.path` may have been set in other ways.
    """
    root = str(IMPORT_ROOT)
    before = os.environ.get("PYTHONPATH")
    if root not in site.getsitepackages():
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, before)))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before


def worker_count(options: RunOptions, resources: dict[str, float]) -> int:
    """Actors to run with a cluster's resources. No share of a GPU spans two; each actor needs a processor too."""
    kind, share = ("GPU", options.gpus) if needs_gpu(options) else ("CPU", 1.0)
    have = int(resources.get(kind, 0))
    room = have * int(1 / share + 1e-9)
    if room < (options.workers or 1):
        each = f", {share:g} of one each" if share < 1 else ""
        raise UserError(f"Ray has {have} {kind}s, too few for {options.workers or 1} workers on {options.device}{each}")
    return options.workers or max(1, min(room, int(resources.get("CPU", room))))


__all__ = ["QUIET", "SETTINGS", "START_TIMEOUT", "check_started", "cluster", "importable", "needs_gpu", "worker_count"]
