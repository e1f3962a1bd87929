"""What a run of a sweep did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dse.results.record import DIVERGED, FAILED, OK, STOPPED

if TYPE_CHECKING:
    from dse.sweep import Cell


@dataclass(frozen=True)
class Summary:
    """What a run of a sweep did.

    - ``total`` cells, of which ``before`` were done already, ``ran`` were run now, in ``seconds``, and ``elsewhere``
      by other drivers meanwhile;
    - ``ok``, ``diverged``, ``failed``: results of the whole sweep by status, as it stands;
    - ``halved``: trials that lost at a rung; ``signal``: number of the one that stopped it with cells left, 0 without;
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
    signal: int = 0
    halved: int = 0
    notes: tuple[str, ...] = ()

    @property
    def stopped(self) -> bool:
        """Whether a signal (Ctrl-C, say) stopped it with cells left."""
        return self.signal > 0

    @property
    def exit_code(self) -> int:
        """What ``dse run`` ends with: 128 plus the signal that stopped it; 1 where a trial has failed or has no result;
        else 0."""
        return 128 + self.signal if self.signal else int(self.failed > 0 or self.left != 0)

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
    signal: int = 0,
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
        signal=signal,
        notes=tuple(notes),
    )
