"""A Ray cluster over the nodes of a Slurm job: started on each node by its own process, and ended with the driver.

The first process starts Ray's head and tells the others its address and token in a file of the job's folder, which all
nodes see and this user alone can read. When the driver has ended it empties the file, which ends the others.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dse.errors import CommandFailed
from dse.run.executors.cluster import QUIET, SETTINGS, importable
from dse.run.interrupt import handlers_kept, shielded
from dse.run.slurm.allocation import Allocation
from dse.terminal import PrintLine

PATIENCE = 300.0
"""Seconds for the head to start, and for the other nodes to join; a file system that is shared can be slow."""
_POLL = 0.5
_OBJECT_STORE = 128 * 2**20  # bytes; trials and records are small
_ANY_PORT = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
"""Ports that the system chooses, since jobs of others may run Ray on the same node."""


@contextmanager
def ray_head(place: Allocation, folder: Path, say: PrintLine) -> Iterator[None]:
    """Context of the first process: the cluster of all nodes, which RAY_ADDRESS names.

    ``folder``: one that all nodes see. Raises CommandFailed when Ray does not start. Nodes that do not join in time
    are said to be missing, and the others work.
    """
    token = secrets.token_hex(32)
    _prepare(token)
    import ray

    host, port = ray.util.get_node_ip_address(), _free_port()
    address, told = f"{host}:{port}", _told(place, folder)
    words = ["--head", f"--node-ip-address={host}", f"--port={port}", f"--temp-dir={_session_folder(place) / 'ray'}"]
    words += ["--include-dashboard=false", "--disable-usage-stats"]
    with _ray_start(words, place, folder) as process:
        try:
            _wait_for_port(host, port, process, folder)
            _write(told, {"address": address, "token": token})
            os.environ["RAY_ADDRESS"] = address
            _wait_for_nodes(address, place.nodes, say)
            yield
        finally:
            os.environ.pop("RAY_ADDRESS", None)
            _write(told, {})


def ray_node(place: Allocation, folder: Path) -> None:
    """What the other processes do: they run Ray on their node until the driver has ended."""
    told, end = _told(place, folder), time.monotonic() + PATIENCE
    while (head := _read(told)) is None:
        if time.monotonic() > end:
            raise CommandFailed(f"the first node of job {place.job} has not started Ray in {PATIENCE:.0f} s: no {told}")
        time.sleep(_POLL)
    if not head:
        return
    _prepare(head["token"])
    with _ray_start([f"--address={head['address']}"], place, folder) as process:
        while _read(told) and process.poll() is None:
            time.sleep(_POLL)


def _prepare(token: str) -> None:
    """Ray asks every process for the token, which is in the environment of this user's processes alone."""
    os.environ |= {**SETTINGS, **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def _session_folder(place: Allocation) -> Path:
    """What holds Ray's sockets and logs, at the same path on all nodes; names of sockets have to be short.

    Ray makes its own folder readable by everybody; this one is not.
    """
    name = f"dse-ray-{os.getuid()}-{place.job}-{place.start}"
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / name


def _told(place: Allocation, folder: Path) -> Path:
    return folder / f"{place.job}-{place.start}.ray.json"


def _read(path: Path) -> dict[str, str] | None:
    """What the first process tells: nothing yet (None), where Ray is, or (empty) that it has ended."""
    try:
        told: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return told


def _write(path: Path, content: dict[str, str]) -> None:
    """Writes a file that this user alone can read; it is there as a whole or not at all."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(path)


@contextmanager
def _ray_start(words: Sequence[str], place: Allocation, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Ray's processes of this node. They ignore SIGTERM, which Slurm sends to all processes of a job, and end with this
    context, or with this process."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words, *_ANY_PORT]
    command += [f"--num-cpus={place.cpus}", f"--object-store-memory={_OBJECT_STORE}"]
    session = _session_folder(place)
    session.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _log(place, folder).open("ab") as out, importable(), shielded():
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()  # the kernel ends its children with it: Ray asks for that under --block
        process.wait()
        shutil.rmtree(session, ignore_errors=True)


def _log(place: Allocation, folder: Path) -> Path:
    return folder / f"{place.job}_{place.rank}_ray.log"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _wait_for_port(host: str, port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((host, port), timeout=10).close()
            return
        except OSError:
            time.sleep(_POLL)
    raise CommandFailed(f"Ray does not start at {host}:{port}; its words are in {folder}/*_ray.log")


def _wait_for_nodes(address: str, nodes: int, say: PrintLine) -> None:
    import ray

    end = time.monotonic() + PATIENCE
    with handlers_kept(), shielded():
        ray.init(address=address, **QUIET)
    try:
        while (joined := sum(bool(node["Alive"]) for node in ray.nodes())) < nodes and time.monotonic() < end:
            time.sleep(_POLL)
    finally:
        ray.shutdown()
    if joined < nodes:
        say(f"only {joined} of {nodes} nodes have joined in {PATIENCE:.0f} s; they work without the others")


__all__ = ["PATIENCE", "ray_head", "ray_node"]
