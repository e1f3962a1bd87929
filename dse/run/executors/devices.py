"""What this machine offers an executor: processors, a GPU that torch finds, and the widest pack for a device."""

from __future__ import annotations

import os
from pathlib import Path

from dse.errors import UserError

MAX_WIDTH = {"cpu": 32, "cuda": 512}
"""Kind of device -> most trials of a pack."""


def default_max_width(device: str) -> int:
    """Most trials of a pack on a device."""
    return MAX_WIDTH["cuda" if device.startswith("cuda") else "cpu"]


def check_device(device: str) -> None:
    """Raises UserError for a device that torch does not know or cannot find here."""
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; valid: cpu, cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch {torch.__version__} finds no GPU on this machine")


def processors() -> int:
    """Processors this process may use: its affinity, and the quota of its control group (a container's limit)."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # another control group version, or 'max'
        return count


__all__ = ["MAX_WIDTH", "check_device", "default_max_width", "processors"]
