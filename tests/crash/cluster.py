"""A driver on a Ray cluster of three nodes of this machine, one of which is killed while it runs a pack.

usage: cluster.py SWEEP RESULTS KILL        KILL: how many results are there when the node is killed, 0 for never
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.run.executors.cluster import SETTINGS
from dse.run.executors.devices import MAX_WIDTH
from dse.sweep import load_sweep
from dse.train.options import RunOptions
from tests.crash.test_driver import program, written

NODES = 3
_NODE = {"num_cpus": 1, "object_store_memory": 128 * 2**20, "include_dashboard": False}


def busy(raylet: int) -> list[int]:
    """The workers of a node that run a pack: Ray names a process after the method that it is in."""
    tasks = Path(f"/proc/{raylet}/task").glob("*/children")
    children = {int(pid) for path in tasks for pid in path.read_text(encoding="utf-8").split()}
    return [pid for pid in children if program(pid).startswith("ray::Actor.attempt")]


def kill_node(cluster: Any, node: Any, results: Path, count: int) -> None:
    """Kills all processes of a node once ``count`` results are there and the node runs a pack."""
    (raylet,) = node.all_processes["raylet"]
    while len(written(results)) < count or not busy(raylet.process.pid):
        time.sleep(0.05)
    print(f"killed with {len(busy(raylet.process.pid))} busy workers and {len(written(results))} results", flush=True)
    cluster.remove_node(node, allow_graceful=False)


def main() -> None:
    MAX_WIDTH["cpu"] = 3  # many small packs
    sweep, results, count = load_sweep(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
    os.environ |= {**SETTINGS, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_NODE)
    node, *_ = [cluster.add_node(**_NODE) for _ in range(NODES - 1)]
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    if count:
        threading.Thread(target=kill_node, args=(cluster, node, results, count), daemon=True).start()
    begun = time.monotonic()
    print(run_sweep(sweep, Store(results), RunOptions(track=False, compact=False)), flush=True)
    print(f"{time.monotonic() - begun:.1f} s", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
