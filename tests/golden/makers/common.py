"""What the makers of golden files share: where files lie, digests, and the processor that exact numbers are from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "golden"
_LEFT_OUT = {"published.yaml", "families.yaml", "parts"}
"""Sweeps of all recipes of the gallery, whose cells every new recipe changes; files that others include."""
SWEEPS = (
    *sorted(path for path in ROOT.glob("sweeps/**/*.yaml") if {path.name, path.parent.name}.isdisjoint(_LEFT_OUT)),
    *sorted(ROOT.glob("tests/sweep/corpus/*.yaml")),
)
PROCESSOR = "processor"
"""The entry of a golden that says where its exact entries are from."""
EXACT = "exact "
"""Begins the name of an entry that is compared only on a processor of the same bits, with the same versions."""


def relative(path: Path) -> str:
    """A file's path from the repository's root."""
    return path.relative_to(ROOT).as_posix()


def digest(text: str) -> str:
    """32 hex digits of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_of(words: Sequence[str]) -> dict[str, Any]:
    """A list of words as their number, the first, the last, and a digest of all in their order."""
    return {"number": len(words), "first": words[:1], "last": words[-1:], "sha256": digest("\n".join(words))}


def processor() -> dict[str, str]:
    """What the last bits of floating-point results depend on."""
    import numpy as np
    import torch

    from dse.train.processor import fingerprint

    return {"bits": fingerprint(), "torch": str(torch.__version__), "numpy": np.__version__}
