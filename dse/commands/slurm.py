"""``dse run --slurm``: hands a sweep to Slurm, and what its jobs do there."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dse.commands.messages import say
from dse.errors import CommandFailed, UserError
from dse.run.slurm.allocation import Allocation, allocation
from dse.run.slurm.request import SlurmRequest
from dse.shell import command
from dse.text import slug
from dse.train.options import RunOptions

FOLDER = "slurm"
"""Folder of jobs' output and of submitit's files, in the results folder."""
_STOPPED = 128 + signal.SIGTERM
_TIMEOUTS = 1000  # how often a job that reaches its time limit goes on in the queue: as often as it takes


@dataclass(frozen=True)
class SweepJob:
    """A run of a sweep in a job: of ``dse.commands.sweeps.run`` what it is given, and the command line it came from.

    submitit pickles it, calls it on every node of the job, and again whenever the job has been put back into the queue.
    """

    words: tuple[str, ...]
    file: Path
    results: Path
    options: RunOptions
    then: str | None = None
    yes: bool = False

    def __call__(self) -> None:
        """Ends the process with the exit code of ``dse run``. After SIGTERM the job goes back into the queue, unless
        Slurm is ending it anyway."""
        from dse.terminal import go_on_unheard, prepare

        prepare()
        go_on_unheard()
        sys.argv = list(self.words)
        place = allocation()
        try:
            code = self._run(place)
        except UserError as error:
            say(f"error: {error}")
            code = error.exit_code
        except KeyboardInterrupt as stopped:
            code = 128 + getattr(stopped, "number", signal.SIGINT)
        handler: Any = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it comes again when the job leaves the node
        if code == _STOPPED and place.rank == 0 and not place.will_end():
            handler(signal.SIGTERM, None)  # submitit's, which ends this process
        if code:
            raise SystemExit(code)

    def checkpoint(self) -> Any:
        """What submitit puts into the queue: this very job. None, for nothing, where Slurm is ending the job."""
        from submitit.helpers import DelayedSubmission

        return None if allocation().will_end() else DelayedSubmission(self)

    def _run(self, place: Allocation) -> int:
        from dse.commands import sweeps
        from dse.run.slurm.ray_nodes import ray_head, ray_node

        folder = self.results / FOLDER
        if place.nodes == 1:
            return sweeps.run(self.file, self.results, self._options_for(place), self.then, self.yes)
        if place.rank:
            ray_node(place, folder)
            return 0
        with ray_head(place, folder, say):
            return sweeps.run(self.file, self.results, self.options, self.then, self.yes)

    def _options_for(self, place: Allocation) -> RunOptions:
        """As many workers on processors as the job has: without a control group each would see all of the node's."""
        import torch

        device = self.options.device
        if self.options.workers or not (device == "cpu" or (device == "auto" and not torch.cuda.is_available())):
            return self.options
        return replace(self.options, workers=place.cpus)


def submit(request: SlurmRequest, job: SweepJob) -> None:
    """Submits the sweep, after a look at its file, and prints how to follow and to cancel its jobs.

    Raises UserError for a mistake in the sweep or in the options, and CommandFailed where Slurm refuses the jobs or is
    not there.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    from dse.sweep import MANY_CELLS, load_sweep

    if request.nodes > 1 and job.options.executor != "ray":
        raise UserError(f"--nodes {request.nodes} needs --executor ray, not {job.options.executor}")
    sweep = load_sweep(job.file, say, None if job.yes else MANY_CELLS)
    try:
        executor = SlurmExecutor(job.results / FOLDER, max_num_timeout=_TIMEOUTS)
        executor.update_parameters(**request.parameters(f"dse-{slug(sweep.name)}"))
        with executor.batch():
            jobs = [executor.submit(job) for _ in range(request.jobs)]
        ids = [one.job_id for one in jobs]
    except (RuntimeError, OSError, FailedJobError, FailedSubmissionError) as error:
        raise CommandFailed(f"Slurm: {str(error).strip().splitlines()[-1]}") from None
    names = ", ".join(ids)
    print(f"{sweep.name}: submitted to Slurm as job{'s' if len(ids) > 1 else ''} {names}")
    print(f"output:    {jobs[0].paths.stdout}" + (" and the like" if len(ids) > 1 else ""))
    print(f"progress:  {command('status', job.file, results=job.results)} --watch")
    print(f"cancel:    scancel {ids[0].partition('_')[0]}")


__all__ = ["FOLDER", "SweepJob", "submit"]
