"""Summary of a run: how many trials it ran, and the results of the whole sweep by status."""

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
    - ``ok``, ``diverged``, ``failed``: results of the whole sweep by status, now;
    - ``halved``: trials that lost at a rung; ``signal``: number of the signal that stopped the run early, 0 without;
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


@dataclass(frozen=True)
class DriverResult:
    """What one driver did: trials that it ``ran``, and that ran ``elsewhere`` meanwhile; ``signal``, ``notes``: as in
    ``Summary``."""

    ran: int = 0
    elsewhere: int = 0
    signal: int = 0
    notes: tuple[str, ...] = ()


NOTHING = DriverResult()


def summarize(cells: Sequence[Cell], done: Mapping[str, str], clock: float, driver: DriverResult = NOTHING) -> Summary:
    """``done``: uid -> status of everything with a result; ``clock``: time.monotonic() at the start; ``driver``: what
    the driver did, by default nothing."""
    counts = Counter(done[cell.uid] for cell in cells if cell.uid in done)
    return Summary(
        total=len(cells),
        before=counts.total() - driver.ran - driver.elsewhere,
        ran=driver.ran,
        ok=counts[OK],
        diverged=counts[DIVERGED],
        failed=counts[FAILED],
        halved=counts[STOPPED],
        seconds=round(time.monotonic() - clock, 3),
        elsewhere=driver.elsewhere,
        signal=driver.signal,
        notes=driver.notes,
    )
