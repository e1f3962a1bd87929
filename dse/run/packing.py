"""The queue of a sweep: cells that wait, handed out as packs, taken back when a worker dies or runs fewer of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.sweep import Cell

ATTEMPTS = 2
"""A trial whose worker died this often while it ran alone is the cause."""


@dataclass(frozen=True)
class Load:
    """Cells of one signature for one worker. ``width``: how many of them fit a pack, None where it must measure that.

    ``attempt``: 1 for the first.
    """

    cells: tuple[Cell, ...]
    width: int | None
    attempt: int = 1


class Queue:
    """``cells`` in the sweep's order; those that can share a pack are handed out together.

    ``workers`` share a group evenly. ``limit``: the widest pack to hand out.
    """

    def __init__(self, cells: Sequence[Cell], workers: int, limit: int) -> None:
        self._workers, self._limit = max(1, workers), limit
        self._groups: dict[str, deque[Cell]] = {}
        self._widths: dict[str, int] = {}
        self._again: deque[Load] = deque()
        self._join(cells)

    def __len__(self) -> int:
        """Cells that wait."""
        return sum(map(len, self._groups.values())) + sum(len(load.cells) for load in self._again)

    def take(self) -> Load | None:
        """The next load, or None when no cell waits."""
        if self._again:
            return self._again.popleft()
        for name, group in self._groups.items():
            if group:
                width = self._widths.get(name)
                count = _even(len(group), min(width or self._limit, self._limit), self._workers)
                return Load(tuple(group.popleft() for _ in range(count)), width)
        return None

    def finished(self, load: Load, count: int) -> None:
        """A worker ran the first ``count`` cells of a load: as many as it found to fit; the others wait again."""
        name = _signature(load.cells[0])
        if load.width is None and count < len(load.cells):
            self._widths[name] = count
        elif load.width is None:
            self._widths.setdefault(name, max(count, self._limit))
        self._groups.setdefault(name, deque()).extendleft(reversed(load.cells[count:]))

    def died(self, load: Load) -> Cell | None:
        """A worker died with a load: it is tried again, in halves, until the cell that does it is alone.

        Returns that cell once it has had its attempts; it is out of the queue.
        """
        cells = load.cells
        if len(cells) > 1:
            half = len(cells) // 2
            self._again.extendleft((Load(cells[half:], len(cells) - half), Load(cells[:half], half)))
            return None
        if load.attempt < ATTEMPTS:
            self._again.appendleft(Load(cells, 1, load.attempt + 1))
            return None
        return cells[0]

    def _join(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            self._groups.setdefault(_signature(cell), deque()).append(cell)


def _even(waiting: int, width: int, workers: int) -> int:
    """Cells of the next pack, so that the waiting ones make packs of like size, as many as keep all workers busy."""
    packs = -(-waiting // width)
    if waiting >= workers:
        packs = -(-packs // workers) * workers
    return -(-waiting // packs)


def _signature(cell: Cell) -> str:
    from dse.pack.lineup import signature

    return signature(cell.trial)
