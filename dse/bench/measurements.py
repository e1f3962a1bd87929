"""A measurement is a row; a file of rows has the command, device, date and versions that they were measured with."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dse.files import replacing
from dse.version import __version__

_PACKAGES = ("triton", "numpy", "torchao")


@dataclass(frozen=True)
class Measurement:
    """One measured number, or why there is none.

    ``value`` in ``unit`` (None: not measured); ``floor``: what it is held against, in the same unit; ``ratio``: value
    over floor; ``target``: the bound on the ratio, where ``better`` says which side is good ('higher' or
    'lower'); ``memory``: peak GiB of the device; ``facts``: further numbers of the same measurement, by their names.
    """

    figure: str
    variant: str
    value: float | None
    unit: str
    floor: float | None = None
    ratio: float | None = None
    note: str = ""
    target: float | None = None
    better: str = "higher"
    memory: float | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """The row as one line of text."""
        return line(asdict(self))


def line(row: Mapping[str, Any]) -> str:
    """A row (its dictionary) as one line of text."""
    value = number(row["value"])
    parts = [f"{row['figure']:18} {row['variant']:28} {value:>10} {row['unit']}"]
    if row.get("ratio") is not None:
        parts.append(f"ratio {number(row['ratio'])}")
    if row.get("target") is not None:
        parts.append(target(row))
    if row.get("memory") is not None:
        parts.append(f"{row['memory']:.2f} GiB")
    parts += [f"{name} {number(value)}" for name, value in (row.get("facts") or {}).items()]
    return "  ".join(parts + [row["note"]] * bool(row["note"]))


def target(row: Mapping[str, Any]) -> str:
    """A row's target and whether it is reached; '' where there is none."""
    bound, ratio, higher = row.get("target"), row.get("ratio"), row.get("better", "higher") == "higher"
    if bound is None:
        return ""
    text = f"target {'>=' if higher else '<='} {number(bound)}"
    if ratio is None:
        return text
    return f"{text} {'reached' if (ratio >= bound if higher else ratio <= bound) else 'MISSED'}"


def number(value: float | None) -> str:
    """Four digits at most; '-' for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def document(rows: Sequence[Measurement | Mapping[str, Any]], device: str, command: str = "") -> dict[str, Any]:
    """The rows with the command, the device, the date and the versions that they were measured with."""
    return {
        "command": command or " ".join(["python", *sys.argv]),
        "device": device_text(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "rows": [asdict(row) if isinstance(row, Measurement) else dict(row) for row in rows],
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """JSON at ``path``; a reader finds the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as draft:
        draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read(path: Path) -> list[Measurement]:
    """The rows of a file that ``write`` made."""
    return [Measurement(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def device_text(device: str) -> str:
    """The device as people name it, with what limits it."""
    if not device.startswith("cuda"):
        return f"cpu ({platform.processor() or platform.machine()}, {torch.get_num_threads()} torch threads)"
    facts = torch.cuda.get_device_properties(device)
    return f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


def versions() -> dict[str, str]:
    """Versions of what decides a speed."""
    found = {"dse": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
