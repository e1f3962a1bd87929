"""What stays the same from pack to pack of a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.probes import Probes
    from dse.run.checkpoint import Checkpoints
    from dse.run.halving import Leg, Rule

OnStep = Callable[[int, int], None]
"""Called with the step that begins and the number of steps."""


@dataclass(frozen=True)
class Setup:
    """Around a training, not in its numbers (but for halving, which stops some of it).

    ``data_dir``: where data sets of one's own are; ``device``: of torch; ``on_step``: called before each step;
    ``halving``: which trials of a pack stop early; ``probes``: when a training is looked into; ``checkpoints``: where
    it writes some, and goes on from what is there; ``leg``: how far it goes with halving (without
    one as a pack that judges itself).
    """

    data_dir: Path | None = None
    device: str = "cpu"
    on_step: OnStep | None = None
    halving: Rule | None = None
    probes: Probes | None = None
    checkpoints: Checkpoints | None = None
    leg: Leg | None = None


PLAIN = Setup()

__all__ = ["PLAIN", "OnStep", "Setup"]
