"""The job that this process is a part of: its place among the nodes, and what Slurm is about to do with it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Allocation:
    """One process of a job, one on each node.

    ``job``: the job's id, with its place in an array; ``start``: how often it has been started before; ``rank`` of this
    process among ``nodes``; ``cpus``: processors of this node that the job has.
    """

    job: str
    start: int = 0
    rank: int = 0
    nodes: int = 1
    cpus: int = 1

    def will_end(self) -> bool:
        """Whether Slurm is ending the job: canceled, preempted or out of time. A job that got a signal alone runs on.

        Where Slurm does not answer, it is taken to be ending the job: nothing is put back into the queue by mistake.
        """
        asked = ["squeue", "--noheader", "--jobs", self.job, "--format", "%T"]
        try:
            said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60, encoding="utf-8")
        except (OSError, subprocess.TimeoutExpired):
            return True
        return said.stdout.split() != ["RUNNING"]


def allocation() -> Allocation:
    """The job of this process, from the environment that Slurm sets."""
    told = os.environ
    array = told.get("SLURM_ARRAY_JOB_ID")
    return Allocation(
        job=f"{array}_{told['SLURM_ARRAY_TASK_ID']}" if array else told["SLURM_JOB_ID"],
        start=int(told.get("SLURM_RESTART_COUNT", 0)),
        rank=int(told.get("SLURM_PROCID", 0)),
        nodes=int(told.get("SLURM_JOB_NUM_NODES", 1)),
        cpus=int(told.get("SLURM_CPUS_PER_TASK") or told.get("SLURM_CPUS_ON_NODE") or 1),
    )


__all__ = ["Allocation", "allocation"]
