"""Runs a check in this process and a second one as a gloo process group: for tests of distributed code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

WORLD = 2
linux = pytest.mark.skipif(sys.platform != "linux", reason="gloo's loopback interface is named lo on Linux")


def in_both(check: Callable[[int], Any], folder: Path, seconds: float = 120) -> Any:
    """``check(rank)`` of this process, rank 0, while a second one runs it as rank 1; ``folder`` holds their store.

    ``check`` is a function at the top of a module: the second process imports it. Raises what it raises here; an
    exception in the second process is an AssertionError with its exit code.
    """
    store = str(folder / "store")
    other = get_context("spawn").Process(target=_second, args=(check, store, seconds), daemon=True)
    other.start()
    try:
        found = _process(0, check, store, seconds)
    finally:
        other.join(seconds)
    assert other.exitcode == 0
    return found


def gathered(value: Any) -> list[Any]:
    """``value`` of each process."""
    out: list[Any] = [None] * WORLD
    torch.distributed.all_gather_object(out, value)
    return out


def _process(rank: int, check: Callable[[int], Any], store: str, seconds: float) -> Any:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    limit, files = timedelta(seconds=seconds), torch.distributed.FileStore(store, WORLD)
    torch.distributed.init_process_group("gloo", store=files, rank=rank, world_size=WORLD, timeout=limit)
    try:
        found = check(rank)
        files.set(f"done {rank}", "")
        files.wait([f"done {other}" for other in range(WORLD)], limit)  # nobody hangs up while another still reads
    finally:
        torch.distributed.destroy_process_group()
    return found


def _second(check: Callable[[int], Any], store: str, seconds: float) -> None:
    """Ends without Python's own cleaning up, in which gloo's threads may still ask for the interpreter and abort."""
    _process(1, check, store, seconds)
    os._exit(0)
