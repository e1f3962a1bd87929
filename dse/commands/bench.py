"""The command `bench`: kernels, packs and sweep, each a table on the screen and a JSON file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dse.bench.measurements import Measurement, device_text, document, number, target, write
from dse.errors import UserError

_WIDE = 150
"""Columns of a terminal that has room for notes."""
BUDGET = 150.0
"""Seconds that ``packs`` may take."""


def kernels(device: str, out: Path | None = None, quick: bool = False, size: int | None = None) -> None:
    """Times the quantizers on a square operand of ``size`` (None: 8192, on a CPU 256) against a copy of it."""
    from dse.bench.kernels import measure

    _finish("Quantizers against a copy", measure(_device(device), size, quick), device, out)


@dataclass(frozen=True)
class PacksOptions:
    """``quick``: small sizes, hardly any time; ``models``, ``only``: names of models and of variants, all when empty;
    ``width``: trials in a pack; ``budget``: seconds after which no measurement is started; ``peers``: PACKAGE=FOLDER
    each."""

    quick: bool = False
    models: Sequence[str] = ()
    only: Sequence[str] = ()
    width: int | None = None
    budget: float = BUDGET
    peers: Sequence[str] = ()


def packs(device: str, out: Path | None, options: PacksOptions) -> None:
    """Times packs against eager trials, plain BF16 and the peers.

    The file is written after each row: what was measured before an interruption is kept.
    """
    from dse.bench.bench_jobs import BenchSettings
    from dse.bench.packs import measure_packs
    from dse.bench.precompile import AHEAD
    from dse.run.executors.devices import processors

    console, place, rows = Console(stderr=True), _device(device), list[Measurement]()

    def on_row(row: Measurement) -> None:
        rows.append(row)
        console.print(row.line(), highlight=False, markup=False, soft_wrap=True)
        if out:
            write(out, document(rows, place, _command()))

    settings = BenchSettings(
        device=place,
        quick=options.quick,
        width=options.width or BenchSettings.width,
        peers=folders(options.peers),
        ahead=min(AHEAD, processors()) if place.startswith("cuda") else 0,
    )
    measure_packs(settings, options.models, options.only, options.budget, on_row)
    _finish("Packs", [asdict(row) for row in rows], device, out)


def sweep(device: str, out: Path | None = None, quick: bool = False, trials: int = 1000) -> None:
    """Times a sweep of small trials against the sum of its packs."""
    from dse.bench.sweep import measure_sweep

    _finish("A sweep", [asdict(row) for row in measure_sweep(_device(device), quick, trials)], device, out)


def folders(pairs: Sequence[str]) -> dict[str, str]:
    """PACKAGE=FOLDER, or PACKAGE for an installed one, as a mapping. Raises UserError for another package."""
    from dse.bench.peers import PEERS

    found = {name: folder for name, _, folder in (pair.partition("=") for pair in pairs)}
    known = sorted({peer.package for peer in PEERS.values()})
    for name in found:
        if name not in known:
            raise UserError(f"bench: unknown package {name!r}; valid: {', '.join(known)}")
    return found


def _device(name: str) -> str:
    from dse.run.executors.devices import check_device

    if name == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(name)
    return name


def _finish(title: str, rows: Sequence[Mapping[str, Any]], device: str, out: Path | None) -> None:
    place = _device(device)
    console = Console()
    console.print(table(f"{title} on {device_text(place)}", rows, console.width >= _WIDE))
    if out:
        write(out, document(rows, place, _command()))
        print(f"written to {out}")


def table(title: str, rows: Sequence[Mapping[str, Any]], wide: bool = True) -> Table:
    """The rows for a terminal, without columns that are empty; notes only where there is room."""
    cells = [
        {
            "figure": row["figure"],
            "variant": row["variant"],
            "value": number(row.get("value")),
            "unit": row.get("unit", ""),
            "floor": number(row.get("floor")),
            "ratio": number(row.get("ratio")),
            "target": target(row).removeprefix("target "),
            "GiB": number(row.get("memory")),
            "note": row.get("note", "") if wide else "",
        }
        for row in rows
    ]
    made = Table(title=title, title_justify="left")
    used = [name for name in cells[0] if any(row[name] not in ("", "-") for row in cells)] if cells else []
    for name in used:
        right = name in ("value", "floor", "ratio", "GiB")
        made.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in cells:
        made.add_row(*(str(row[name]) for name in used))
    return made


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
