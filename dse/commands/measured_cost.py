"""The command `cost --measure`: this machine's kernels beside the time model, as a table and a JSON file."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.commands.cost import StepOptions
from dse.commands.gallery import get, set_options
from dse.errors import UserError

if TYPE_CHECKING:
    from dse.bench.own_kernels import TimedKernel
    from dse.cost.models import Deployed
    from dse.cost.roofline import Machine

RECIPE = "nvfp4"
"""The recipe that is measured if none is named."""
CPU_TOKENS = 64
"""Tokens that a CPU measures if none are named."""
_CARDS = ("H200 NVL", "GB300", "GB200", "B300", "B200", "H200", "H100", "RTX PRO 6000", "RTX 5090", "MI355X")
"""What a device's name holds -> a profile of that name in lower case, with hyphens; the first that fits."""


@dataclass(frozen=True)
class _Here:
    """The device, its name, and the hardware that predictions are of."""

    device: str
    name: str
    machine: Machine | None


def measure(options: StepOptions, out: Path | None) -> None:
    """Times the kernels of a model's layers, prints them beside the prediction, and saves all of it as JSON.

    ``out``: the file; by default cost-MODEL-DEVICE.json. Raises UserError for unknown names and where it cannot be
    written.
    """
    from dse.bench.own_kernels import timed_kernels

    here = _here(options.hardware)
    if here.device == "cpu" and options.tokens is None:
        options = StepOptions(**{**vars(options), "tokens": CPU_TOKENS})
    model, _ = options.situation()
    print(_introduced(here, model), flush=True)
    found: dict[str, list[TimedKernel]] = {}
    for number, name in enumerate(options.recipes or (RECIPE,)):
        recipe = set_options(get(name), options.settings if number == 0 else ())
        print(f"\n{name}\n{_HEAD}", flush=True)
        for row in timed_kernels(recipe, model, here.device, here.machine):
            print(_line(row), flush=True)
            found.setdefault(name, []).append(row)
    if said := _agreement([row for rows in found.values() for row in rows]):
        print(f"\n{said}")
    path = out or Path(f"cost-{model.name}-{here.machine.profile.name if here.machine else here.device}.json")
    _save(path, here, model, found)
    print(f"wrote {path}")


def profile_of(device: str) -> str:
    """The profile of a device by its name, or ''.

    >>> profile_of("NVIDIA H200"), profile_of("NVIDIA RTX PRO 6000 Blackwell Server Edition"), profile_of("Tesla T4")
    ('h200', 'rtx-pro-6000', '')
    """
    found = next((card for card in _CARDS if card in device), "")
    return found.lower().replace(" ", "-")


def _here(hardware: str | None) -> _Here:
    import torch

    from dse.cost.roofline import machine

    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    own = hardware or (profile_of(name) if cuda else "")
    return _Here("cuda" if cuda else "cpu", name, machine(own) if own else None)


def _introduced(here: _Here, model: Deployed) -> str:
    if here.device == "cpu":
        what = f"no GPU here: the loops of a CPU ({here.name}) are timed"
    else:
        what = f"Triton kernels on {here.name}"
    beside = f"beside what is predicted of {here.machine.profile.title}" if here.machine else "no prediction: "
    beside += "" if here.machine else "no profile of this hardware is known, --hardware names one"
    return f"{what}; {beside}\n{model.title}, {model.tokens:,} tokens"


_HEAD = f"{'layer':32} {'kernel':22} {'shape':>15} {'program':10} {'measured':>12} {'predicted':>12} {'error':>7}"


def _line(row: TimedKernel) -> str:
    shape = f"{row.rows} x {row.columns}"
    shown, known = f"{1e6 * row.measured:9.1f} us", not math.isnan(row.predicted)
    said = f"{1e6 * row.predicted:9.1f} us {100 * row.error:+6.0f} %" if known else ""
    return f"{row.layer[:32]:32} {row.what:22} {shape:>15} {row.program:10} {shown} {said}".rstrip()


def _agreement(rows: Sequence[TimedKernel]) -> str:
    """Median of |error| and Spearman's rank correlation, or nothing without predictions."""
    from statistics import median

    from scipy.stats import spearmanr

    known = [row for row in rows if not math.isnan(row.predicted)]
    if len(known) < 3:
        return ""
    rank = float(spearmanr([row.predicted for row in known], [row.measured for row in known]).statistic)
    error = median(abs(row.error) for row in known)
    return f"{len(known)} kernels: median error {100 * error:.0f} %, rank correlation {rank:.3f}"


def _save(path: Path, here: _Here, model: Deployed, found: dict[str, list[TimedKernel]]) -> None:
    from dse.files import replacing
    from dse.results.versions import versions

    content: dict[str, Any] = {
        "device": here.name,
        "hardware": here.machine.profile.name if here.machine else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions() | _triton(),
        "model": model.name,
        "tokens": model.tokens,
        "unit": "s",
        "kernels": [
            {"recipe": name, **row._asdict(), "predicted": None if math.isnan(row.predicted) else row.predicted}
            for name, rows in found.items()
            for row in rows
        ],
    }
    try:
        with replacing(path, durable=False) as draft:
            draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def _triton() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"triton": version("triton")}
    except PackageNotFoundError:
        return {}


__all__ = ["measure", "profile_of"]
