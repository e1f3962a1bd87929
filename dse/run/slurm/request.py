"""What a sweep asks of Slurm: the options of ``dse run --slurm``, and the parameters of ``sbatch`` they become."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dse.errors import UserError

WARNING = 60
"""Seconds before its time limit at which a job gets SIGTERM; Slurm may send it up to a minute earlier."""
SIGNAL = "TERM"
"""The signal of that warning, without SIG. Preemption sends the same, and ``dse.run.interrupt`` answers it."""

_OWN = {
    "partition": "--partition",
    "account": "--account",
    "time": "--time",
    "nodes": "--nodes",
    "array": "--jobs",
    "gpus-per-node": "--gpus",
    "cpus-per-task": "--cpus",
}
"""Options of sbatch -> those of ``dse run`` that set them."""
_FIXED = ("ntasks", "ntasks-per-node", "signal", "requeue", "no-requeue", "open-mode", "output", "error", "wrap")
"""Options of sbatch that the launcher sets, and cannot do without."""
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


@dataclass(frozen=True)
class SlurmRequest:
    """Resources of a sweep's jobs. Raises UserError for what Slurm would not understand.

    - ``partition``, ``account``: None for the cluster's own choice; ``time``: limit of a job, in Slurm's notation;
    - ``nodes``: of each job, one Ray cluster; ``jobs``: drivers that share the results folder;
    - ``gpus``: of each node; ``cpus``: of each node, by default one per GPU, or one;
    - ``sbatch``: further options of sbatch, KEY=VALUE or KEY.
    """

    partition: str | None = None
    account: str | None = None
    time: str = "60"
    nodes: int = 1
    jobs: int = 1
    gpus: int = 0
    cpus: int | None = None
    sbatch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.minutes <= 2 * WARNING / 60:
            raise UserError(f"--time {self.time!r} is too short: a job is warned up to 2 minutes before its end")
        self.further()

    @property
    def minutes(self) -> int:
        """The time limit in minutes, rounded up."""
        return minutes(self.time)

    def further(self) -> dict[str, str | bool]:
        """The further options of sbatch by name; True for one without a value."""
        found: dict[str, str | bool] = {}
        for line in self.sbatch:
            name, equals, value = line.strip().lstrip("-").partition("=")
            name = name.strip().replace("_", "-")
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or (equals and not value.strip()):
                raise UserError(f"--sbatch {line!r}: write KEY=VALUE or KEY, such as qos=normal or exclusive")
            if name in _OWN:
                raise UserError(f"--sbatch {line!r}: write {_OWN[name]}")
            if name in _FIXED:
                raise UserError(f"--sbatch {line!r}: set by the launcher, and not to be changed")
            if name in found:
                raise UserError(f"--sbatch {name} is given twice")
            found[name] = value.strip() if equals else True
        return found

    def parameters(self, name: str) -> dict[str, Any]:
        """Parameters of a ``submitit.SlurmExecutor``. ``name``: of the job."""
        given: dict[str, Any] = {
            "job_name": name,
            "partition": self.partition,
            "account": self.account,
            "time": self.minutes,
            "nodes": self.nodes,
            "ntasks_per_node": 1,
            "gpus_per_node": self.gpus or None,
            "cpus_per_task": self.cpus or max(1, self.gpus),
            "stderr_to_stdout": True,
            "array_parallelism": self.jobs,
            "wckey": None,  # submitit's own would be refused where Slurm keeps such keys
            "setup": [f"export SUBMITIT_PREEMPT_SIGNAL={SIGNAL}"],
        }
        return given | {"additional_parameters": self.further() | {"requeue": True, "signal": f"{SIGNAL}@{WARNING}"}}


def minutes(text: str) -> int:
    """Minutes of a time in Slurm's notation, rounded up; its forms are those of ``sbatch --time``.

    >>> [minutes(text) for text in ("90", "90:30", "2:00:00", "1-12", "1-12:30", "1-12:30:00")]
    [90, 91, 120, 2160, 2190, 2190]
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UserError(f"--time {text!r}: write minutes, H:MM:SS, or D-HH[:MM[:SS]], such as 90 or 1-12:00:00")
    first, *rest = (int(part) for part in (found["first"], found["second"], found["third"]) if part is not None)
    if found["days"] is not None or len(rest) == 2:
        hours, (later, seconds) = first, (*rest, 0, 0)[:2]
    else:
        hours, later, seconds = 0, first, (*rest, 0)[0]
    return int(found["days"] or 0) * 1440 + hours * 60 + later + -(-seconds // 60)


def given_options(names: Iterable[str]) -> None:
    """Raises UserError where options of Slurm are given, and not that a sweep goes there."""
    if options := [f"--{name}" for name in names]:
        raise UserError(f"{', '.join(options)}: of use with --slurm alone")


__all__ = ["SIGNAL", "WARNING", "SlurmRequest", "given_options", "minutes"]
