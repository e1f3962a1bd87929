"""Records of trials whose worker died or hung, made where no training runs: without importing torch's train loop."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dse.results.record import FAILED, Record
from dse.results.versions import versions
from dse.train.context import SPLIT

if TYPE_CHECKING:
    from dse.trial import Trial


def failed_record(
    trial: Trial, config: str, error: str, device: str, seconds: float = 0.0, splits: Sequence[str] = ()
) -> Record:
    """The record of a trial that returned none.

    ``splits``: why it is no longer in a larger pack, a line each.
    """
    return Record(
        uid=trial.uid,
        baseline_uid=trial.baseline().uid,
        status=FAILED,
        task=trial.task.name,
        recipe=trial.recipe.name,
        config=config,
        seed=trial.seed,
        trial=trial.spec,
        error=error,
        seconds=seconds,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device,
        host=socket.gethostname(),
        versions=versions(),
        pack={SPLIT: list(splits)} if splits else {},
    )


__all__ = ["failed_record"]
