"""What a training takes of its machine, and the commit of the code that runs it: provenance of a record."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch


class MachineUse:
    """Processor time since it was made, and memory at most, of this process and of its device."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._start, self._began = device, time.process_time(), time.monotonic()

    def facts(self) -> dict[str, Any]:
        """Of the process and the pack so far.

        ``pid``; ``pack_seconds``: wall clock of the whole pack; ``cpu_seconds``: that of all its threads;
        ``memory_mib``: the largest resident set since it began; ``gpu_memory_mib``: the most that torch has held of the
        device for tensors.
        """
        unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss: bytes, or KiB
        found = {
            "pid": os.getpid(),
            "pack_seconds": round(time.monotonic() - self._began, 2),
            "cpu_seconds": round(time.process_time() - self._start, 2),
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20,
        }
        if self._device.type == "cuda":
            found["gpu_memory_mib"] = torch.cuda.max_memory_allocated(self._device) // 2**20
        return found


@cache
def commit(folder: Path = Path(__file__).parents[2]) -> str:
    """The commit of a Git checkout, with ``+changes`` where tracked files differ from it; empty where there is none.

    By default that of the checkout this package is used from. What an installed package is, its version says.
    """
    if not (folder / ".git").exists():
        return ""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head[:12] + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=10)
    return done.stdout.strip()


__all__ = ["MachineUse", "commit"]
