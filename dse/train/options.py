"""Run options: every setting of a run, from the command line to the worker, in one dataclass.

Nothing here changes a result, except ``halving``, which stops some trials early; ``probes`` and ``gemm_checks`` add to
records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError, nearest
from dse.results.record import FAILED
from dse.train.checkpoint import EVERY

if TYPE_CHECKING:
    from dse.probes import Probes
    from dse.train.halving import HalvingRule

EXECUTORS = ("local", "ray", "tune")
"""Names of executors; ``dse.run.executors`` makes them."""

RETRY = {"none": frozenset[str](), "failed": frozenset({FAILED}), "all": None}
"""Which results are run again, by name: the statuses, or (None) whatever it is."""


@dataclass(frozen=True)
class RunOptions:
    """Settings of a run. Raises UserError for a name that is unknown, and for a number that is out of range.

    - ``executor``: a name of ``EXECUTORS``; ``workers``: packs at a time, None for one per processor (or GPU);
    - ``gpus``: the share of a GPU that a worker takes, where it needs one; ``device``: of torch, cpu or cuda;
    - ``data_dir``: folder of the user's own data sets;
    - ``timeout``: seconds that a trial may train (its share of the pack's time), None for as long as it takes;
    - ``only``: the trials to run, by uid or CONFIG@SEED; all of them when empty;
    - ``retry``: which trials with a result are run again, a name of ``RETRY``; diverged is a result like any other;
    - ``progress``: show a progress bar; ``track``: write results to MLflow; ``compact``: merge the shards at the end;
    - ``checkpoint``: seconds between checkpoints; ``gemm_checks``: check layers' products now and then.

    ``run_sweep`` fills in the rest from the sweep: ``halving``, which trials stop early; ``probes``, when layers are
    measured; ``results``, the folder for checkpoints and trained weights, as a worker can reach it (None: neither);
    ``keep_weights``: trained weights are kept there, because other trials start from them; ``save_weights``: as files
    of safetensors, because the sweep says so.
    """

    executor: str = "ray"
    workers: int | None = None
    gpus: float = 1.0
    device: str = "cpu"
    data_dir: Path | None = None
    timeout: float | None = None
    only: Sequence[str] = ()
    retry: str = "none"
    progress: bool = True
    track: bool = True
    compact: bool = True
    checkpoint: float = EVERY
    gemm_checks: bool = True
    halving: HalvingRule | None = None
    probes: Probes | None = None
    results: Path | None = None
    keep_weights: bool = False
    save_weights: bool = False

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UserError(f"unknown executor {self.executor!r}{nearest(self.executor, EXECUTORS)}")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}")
        if self.timeout is not None and not self.timeout > 0:
            raise UserError(f"timeout must be more than 0 seconds, not {self.timeout:g}")
        if not 0 < self.gpus <= 1:
            raise UserError(f"GPUs per worker must be more than 0 and at most 1, not {self.gpus:g}")
        if self.retry not in RETRY:
            raise UserError(f"unknown retry {self.retry!r}; valid: {', '.join(RETRY)}")

    @property
    def retried(self) -> frozenset[str] | None:
        """Statuses of results that are run again; None: all of them."""
        return RETRY[self.retry]


__all__ = ["EXECUTORS", "RETRY", "RunOptions"]
