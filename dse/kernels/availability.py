"""Whether Triton kernels can run here."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch


def interpreted() -> bool:
    """Whether Triton emulates kernels on the CPU (tests)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def available() -> bool:
    """Whether kernels can run: Triton, and a CUDA device or Triton's interpreter."""
    return find_spec("triton") is not None and (interpreted() or torch.cuda.is_available())
