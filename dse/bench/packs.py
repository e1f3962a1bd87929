"""The pack benchmark (``dse bench packs``): packs against compiled programs, eager trials and other simulators.

On a bare GPU machine: python -m dse.bench.packs --device cuda --tables --budget 450 --out FILE.json; the same command
with --resume measures what is not in the file yet.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from dse.bench.bench_jobs import BenchSettings
from dse.bench.bench_variants import TABLES, VARIANTS
from dse.bench.matrix import DeviceLost, jobs, measure_packs
from dse.bench.measurements import Measurement, document, read, write
from dse.bench.models import SUBJECTS
from dse.bench.precompile import AHEAD
from dse.bench.ratios import RATIO, ratios
from dse.errors import UserError
from dse.tasks.base import ACTIVATIONS
from dse.version import IMPORT_ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints each row as it is measured and writes all of them after each. A lost GPU costs one more process."""
    options = _parser().parse_args(arguments)
    if options.cache:
        for name in ("TORCHINDUCTOR", "TRITON"):
            os.environ[f"{name}_CACHE_DIR"] = str(options.cache.resolve() / name.lower())
    known = _known(options.out, options.continued) if options.out and options.resume else []
    rows = list(known)
    clock = time.perf_counter()

    def note(row: Measurement, shown: bool = True) -> None:
        rows.append(row)
        if shown:
            print(f"{time.perf_counter() - clock:6.1f} s  {row.line()}", flush=True)
        if options.out:
            write(options.out, document(rows, options.device))

    peers = dict(pair.split("=", 1) for pair in options.peer)
    ahead = (AHEAD if options.device.startswith("cuda") else 0) if options.ahead is None else options.ahead
    settings = BenchSettings(
        device=options.device,
        quick=options.quick,
        seconds=options.seconds,
        width=options.width or BenchSettings.width,
        widths=tuple(options.widths) or BenchSettings.widths,
        crowds=tuple(options.crowds) or BenchSettings.crowds,
        compiled_crowds=tuple(options.compiled_crowds) or BenchSettings.compiled_crowds,
        crowded=tuple(options.crowded) or BenchSettings.crowded,
        activations=tuple(options.activations) or ACTIVATIONS,
        slowest=options.slowest,
        peers=peers,
        ahead=ahead,
    )
    only = [*options.only, *(TABLES if options.tables else ())]
    try:
        measure_packs(settings, options.models, only, options.budget, note, known)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DeviceLost as lost:
        print(f"{lost}; going on in a new process", flush=True)
        left = options.budget - (time.perf_counter() - clock)
        for row in _elsewhere(lost.left, left, list(arguments or sys.argv[1:]), rows) if lost.left else []:
            note(row, shown=False)
        for row in ratios(rows, options.device, options.quick):
            note(row)
    return 0


def _known(out: Path, continued: bool) -> list[Measurement]:
    """The rows of an earlier run, without ratios; ``continued``: those that could not be measured, too."""
    rows = read(out) if out.exists() else []
    return [row for row in rows if (continued or row.value is not None) and not row.figure.endswith(RATIO)]


def _elsewhere(
    left: Sequence[str], budget: float, arguments: Sequence[str], rows: Sequence[Measurement]
) -> list[Measurement]:
    """The further rows of the jobs that are left, from a process of their own; it prints them."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        write(out, document(rows, "cpu"))
        extra = ["--only", *left, "--budget", f"{max(budget, 10):.0f}", "--ahead", "0", "--out", str(out)]
        extra += ["--resume", "--continued"]
        kept = [word for word in arguments if word != "--tables"]
        command = [sys.executable, "-m", "dse.bench.packs", *kept, *extra]
        root = str(IMPORT_ROOT)
        places = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": places})
        return _known(out, continued=True)[len(rows) :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dse.bench.packs", description=__doc__)
    add = parser.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--quick", action="store_true", help="small models and hardly any time: does it run?")
    add("--models", nargs="*", default=[], help=", ".join(SUBJECTS))
    add("--only", nargs="*", default=[], help=f"variants, or variant:model; {', '.join(VARIANTS)}")
    add("--budget", type=float, default=150.0, help="seconds after which nothing more is begun")
    add("--seconds", type=float, default=1.5, help="of measuring each variant")
    add("--width", type=int, help="of the packs that are compared (64)")
    add("--widths", type=int, nargs="*", default=[], help="further widths (1 16 256)")
    add("--crowds", type=int, nargs="*", default=[], help="numbers of eager processes (2 4 8 16)")
    add("--compiled-crowds", type=int, nargs="*", default=[], help="numbers of compiled processes (2 4 8)")
    add("--crowded", nargs="*", default=[], help="models that processes are tried on (gpt128)")
    add("--activations", nargs="*", default=[], choices=ACTIVATIONS, help="of packs: " + ", ".join(ACTIVATIONS))
    add("--slowest", default=BenchSettings.slowest, help="recipe that growth measures as the slowest (%(default)s)")
    add("--tables", action="store_true", help="the measurements behind docs/performance.md, most important first")
    add("--resume", action="store_true", help="keep the rows of --out, measure what is missing there")
    add("--ahead", type=int, help=f"processes that compile kernels first; 0: none ({AHEAD} on a GPU)")
    add("--peer", action="append", default=[], metavar="PACKAGE=PATH", help="microxcaling or torchao, and its folder")
    add("--out", type=Path, help="JSON file")
    add("--cache", type=Path, help="folder of compiled kernels, of Triton and of torch.compile; kept between runs")
    add("--continued", action="store_true", help=argparse.SUPPRESS)
    return parser


__all__ = ["DeviceLost", "jobs", "main", "measure_packs"]

if __name__ == "__main__":
    raise SystemExit(main())
