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


_SLURM = "Slurm, with --slurm"
Slurm = Annotated[
    bool,
    typer.Option("--slurm", help="Run it in jobs of Slurm, which this command submits", rich_help_panel=_SLURM),
]
Partition = Annotated[
    str | None, typer.Option("--partition", help="Partition (default: the cluster's)", rich_help_panel=_SLURM)
]
Account = Annotated[str | None, typer.Option("--account", help="Account to charge", rich_help_panel=_SLURM)]
JobTime = Annotated[
    str | None,
    typer.Option(
        "--time",
        help="Time limit of a job, as for sbatch: 90 (minutes), 8:00:00, 1-12:00:00 (default: 60). A job that reaches "
        "it goes back into the queue, and on from there",
        rich_help_panel=_SLURM,
    ),
]
Nodes = Annotated[
    int | None, typer.Option("--nodes", min=1, help="Nodes of each job, one Ray cluster", rich_help_panel=_SLURM)
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Jobs that work on the sweep at the same time", rich_help_panel=_SLURM),
]
Gpus = Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs of each node", rich_help_panel=_SLURM)]
Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus", min=1, help="Processors of each node (default: one per GPU, or one)", rich_help_panel=_SLURM
    ),
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(
        "--sbatch",
        help="A further option of sbatch, such as qos=normal, mem=64G or exclusive; repeatable",
        metavar="KEY=VALUE",
        rich_help_panel=_SLURM,
    ),
]
