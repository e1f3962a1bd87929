"""Versions of everything that decides a trial's numbers, as records and checkpoints keep them."""

from __future__ import annotations

import platform

from dse.version import __version__


def versions() -> dict[str, str]:
    """Name -> version: this package, Python, torch and numpy. Imports the last two."""
    import numpy as np
    import torch

    return {
        "dse": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


__all__ = ["versions"]
