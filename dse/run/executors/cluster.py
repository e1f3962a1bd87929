"""Starting Ray, or joining a cluster, with the settings that its traps ask for."""

from __future__ import annotations

import os
import site
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dse
from dse.errors import UserError
from dse.run.executors.base import check_device, processors
from dse.run.executors.private import own_folder, private
from dse.run.interrupt import handlers_kept, shielded
from dse.train.options import RunOptions

SETTINGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would restart its workers through uv, and hang
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns about a default that will change
}
START_TIMEOUT = 180.0
"""Seconds after which actors that do not come up are an error: resources others hold make Ray wait for ever."""
_OBJECT_STORE = 128 * 2**20  # bytes; trials and records are small


@contextmanager
def cluster(options: RunOptions) -> Iterator[int]:
    """Number of actors to run; Ray is stopped at the end unless it ran before.

    A private local Ray, or the cluster that RAY_ADDRESS names. Raises UserError when it cannot be reached or has not
    got what was asked for: Ray itself would wait for ever.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    mine = not ray.is_initialized()
    own = mine and os.environ.get("RAY_ADDRESS", "local") == "local"
    with private() if own else nullcontext():
        if mine:
            with handlers_kept(), shielded():  # Ray installs handlers of its own, over ours
                _start(options)
        try:
            yield _slots(options, ray.cluster_resources())
        finally:
            if mine:
                ray.shutdown()


def on_gpu(options: RunOptions) -> bool:
    """Whether each actor needs a GPU, or its share of one."""
    return options.device.startswith("cuda")


def check_started(since: float) -> None:
    """Raises UserError when no actor has started since then (time.monotonic), for too long a time."""
    if time.monotonic() - since > START_TIMEOUT:
        raise UserError(
            f"no Ray worker has started in {START_TIMEOUT:.0f} s; something else may hold the processors or GPUs"
            " (`ray status` shows it)"
        )


def _start(options: RunOptions) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        if address != "local":
            _knock(address)
            ray.init(address=address, **quiet)
            return
        check_device(options.device)
        with _importable():
            folder = own_folder()
            ray.init(
                address="local",
                num_cpus=options.workers or processors(),
                object_store_memory=_OBJECT_STORE,
                include_dashboard=False,
                _temp_dir=folder,
                **quiet,
            )
    except (OSError, RuntimeError, ValueError) as error:
        where = "Ray does not start" if address == "local" else f"RAY_ADDRESS={address} cannot be reached"
        raise UserError(f"{where}: {str(error).strip().splitlines()[0]}; `--executor local` needs no Ray") from None


def _knock(address: str) -> None:
    """Raises OSError when nobody listens at host:port or ray://host:port: Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _importable() -> Iterator[None]:
    """Lets the workers of a local Ray import this very `dse` and `tasks`, installed or not.

    They inherit the environment of the process that starts Ray; `sys.path` may have been set in other ways.
    """
    root = str(Path(dse.__file__).resolve().parents[1])
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


def _slots(options: RunOptions, resources: dict[str, float]) -> int:
    """Workers to run. Of a GPU's share as many fit as whole ones do; each needs a processor besides."""
    kind, share = ("GPU", options.gpus) if on_gpu(options) else ("CPU", 1.0)
    have = int(resources.get(kind, 0))
    room = have * int(1 / share + 1e-9)
    if room < (options.workers or 1):
        each = f", {share:g} of one each" if share < 1 else ""
        raise UserError(f"Ray has {have} {kind}s, too few for {options.workers or 1} workers on {options.device}{each}")
    return options.workers or max(1, min(room, int(resources.get("CPU", room))))
