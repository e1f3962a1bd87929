"""What stays the same from pack to pack of a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.probes import Probes
    from dse.results.record import Record
    from dse.train.checkpoint import Checkpoints
    from dse.train.halving import HalvingRule, RungTarget

OnStep = Callable[[int, int], None]
"""Called with the step that begins and the number of steps."""


@dataclass(frozen=True)
class TrainContext:
    """Around a training, not in its numbers (but for halving, which stops some of it).

    ``data_dir``: where data sets of one's own are; ``device``: of torch; ``on_step``: called before each step;
    ``halving``: which trials of a pack stop early; ``probes``: when a training is looked into; ``checkpoints``: where
    it writes some, and goes on from what is there; ``leg``: how far it goes with halving (without
    one as a pack that judges itself). ``on_done``: called with the records of trials as soon as they are finished,
    where a pack is trained in several parts; ``splits``: why these trials are no longer in a larger pack, a line each.
    """

    data_dir: Path | None = None
    device: str = "cpu"
    on_step: OnStep | None = None
    halving: HalvingRule | None = None
    probes: Probes | None = None
    checkpoints: Checkpoints | None = None
    leg: RungTarget | None = None
    on_done: Callable[[Sequence[Record]], None] | None = None
    splits: tuple[str, ...] = ()

    def split(self, trials: int, why: str) -> TrainContext:
        """For the halves of a pack; it is said in the log, and in the records of the trials."""
        line = f"a pack of {trials} trials was split in halves: {why}"
        print(line, file=sys.stderr, flush=True)
        return replace(self, splits=(*self.splits, line))

    @property
    def facts(self) -> dict[str, list[str]]:
        """What it adds to a record's provenance."""
        return {SPLIT: list(self.splits)} if self.splits else {}


SPLIT = "split_because"
"""In a record's ``pack``: why its trial is not in the pack that it was handed out with."""
PLAIN = TrainContext()


def last_line(error: str) -> str:
    """Of a traceback or message, at most 200 characters.

    >>> last_line("Traceback ...\\n  File ...\\nValueError: no\\n")
    'ValueError: no'
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason known"


__all__ = ["PLAIN", "SPLIT", "OnStep", "TrainContext", "last_line"]
