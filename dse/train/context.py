"""Training context: the run options, and what belongs to one pack besides its trials."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dse.train.options import RunOptions

if TYPE_CHECKING:
    from dse.pack.starts import ModelWeights
    from dse.results.record import Record
    from dse.train.checkpoint import Checkpoints
    from dse.train.halving import RungTarget

OnStep = Callable[[int, int], None]
"""Called with the step that begins and the number of steps."""


@dataclass(frozen=True)
class TrainContext:
    """Settings of one pack's training. Its numbers do not depend on them, but halving stops some trials early.

    - ``options``: the run's; of them device, data folder, halving and probes are used here;
    - ``on_step``: called before each step; ``on_done``: called with the records of trials that are finished, where a
      pack is trained in several parts;
    - ``target``: the rung up to which to train; None: the pack holds all trials that are ranked together;
    - ``checkpoints``: where to write checkpoints and to look for some to continue from; None: neither;
    - ``keep``: called with the uid and the trained weights of each trial that comes to its end;
    - ``splits``: why these trials are no longer in a larger pack, one line for each time that it was split.
    """

    options: RunOptions = field(default_factory=RunOptions)
    on_step: OnStep | None = None
    target: RungTarget | None = None
    on_done: Callable[[Sequence[Record]], None] | None = None
    splits: tuple[str, ...] = ()
    checkpoints: Checkpoints | None = None
    keep: Callable[[str, ModelWeights], None] | None = None

    def split(self, trials: int, why: str) -> TrainContext:
        """The context for the halves of a pack of ``trials``; the reason is printed, and kept for the records."""
        line = f"a pack of {trials} trials was split in halves: {why}"
        print(line, file=sys.stderr, flush=True)
        return replace(self, splits=(*self.splits, line))

    @property
    def facts(self) -> dict[str, list[str]]:
        """Additions to the provenance of the records."""
        return {SPLIT: list(self.splits)} if self.splits else {}


SPLIT = "split_because"
"""In a record's ``pack``: why its trial is not in the pack that it was handed out with."""
PLAIN = TrainContext()


def last_line(error: str) -> str:
    """The last line of a traceback or message, at most 200 characters.

    >>> last_line("Traceback ...\\n  File ...\\nValueError: no\\n")
    'ValueError: no'
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason known"


__all__ = ["PLAIN", "SPLIT", "OnStep", "TrainContext", "last_line"]
