"""Arguments and options that several commands of the command line share, with their help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ExecutorName(StrEnum):
    ray = "ray"
    local = "local"
    tune = "tune"


class Retry(StrEnum):
    none = "none"
    failed = "failed"
    all = "all"


def home(path: Path | None) -> Path | None:
    """``--results=~/x`` reaches the program as it stands: a shell expands ~ at the beginning of a word alone."""
    return path.expanduser() if path else None


SweepPath = Annotated[Path, typer.Argument(help="Sweep file (YAML), for example sweep.yaml", metavar="FILE")]
ResultsFolder = Annotated[Path, typer.Option(help="Folder of results", envvar=None, callback=home)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder with data sets of your own; see: dse data", metavar="DIR", callback=home),
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="Trials at a time (default: one per processor or GPU)")
]
Yes = Annotated[bool, typer.Option("--yes", help="Go on with a sweep of more than 100,000 cells")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="File or module with techniques and recipes of your own; repeatable", metavar="FILE"),
]
RESULTS = Path("results")
REPORTS = Path("reports")
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one")]
Out = Annotated[Path | None, typer.Option("--out", help="JSON file for the table", metavar="FILE")]
Quick = Annotated[bool, typer.Option("--quick", help="Small sizes and hardly any time: does it run?")]
