"""What a run of a sweep did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.run.record import DIVERGED, FAILED, OK, STOPPED

if TYPE_CHECKING:
    from dse.sweep import Cell


@dataclass(frozen=True)
class Summary:
    """What a run of a sweep did.

    - ``total`` cells, of which ``before`` were done already, ``ran`` were run now, in ``seconds``, and ``elsewhere``
      by other drivers meanwhile;
    - ``ok``, ``diverged``, ``failed``: results of the whole sweep by status, as it stands;
    - ``halved``: trials that lost at a rung; ``stopped``: by Ctrl-C, with cells left;
    - ``notes``: warnings for the user, one line each.
    """

    total: int
    before: int
    ran: int
    ok: int
    diverged: int
    failed: int
    seconds: float
    elsewhere: int = 0
    stopped: bool = False
    halved: int = 0
    notes: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """Cells without a result."""
        return self.total - self.ok - self.diverged - self.failed - self.halved


def summarize(
    cells: Sequence[Cell],
    done: Mapping[str, str],
    clock: float,
    ran: int = 0,
    elsewhere: int = 0,
    stopped: bool = False,
    notes: Sequence[str] = (),
) -> Summary:
    """``done``: uid -> status of everything with a result; ``clock``: time.monotonic() at the start."""
    counts = Counter(done[cell.uid] for cell in cells if cell.uid in done)
    return Summary(
        total=len(cells),
        before=counts.total() - ran - elsewhere,
        ran=ran,
        ok=counts[OK],
        diverged=counts[DIVERGED],
        failed=counts[FAILED],
        halved=counts[STOPPED],
        seconds=round(time.monotonic() - clock, 3),
        elsewhere=elsewhere,
        stopped=stopped,
        notes=tuple(notes),
    )
