"""The queue of a sweep: cells that wait, handed out as packs, taken back when a worker dies or runs fewer of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dse.sweep import Cell
    from dse.train.halving import RungTarget

ATTEMPTS = 2
"""A trial whose worker died this often while it ran alone is the cause."""


@dataclass(frozen=True)
class WorkItem:
    """Cells of one signature for one worker. ``width``: how many of them fit a pack, None where it must measure that.

    ``attempt``: 1 for the first; ``leg``: how far they are to train, where halving stops some. ``splits``: why they are
    no longer in a larger pack, a line each.
    """

    cells: tuple[Cell, ...]
    width: int | None
    attempt: int = 1
    leg: RungTarget | None = None
    splits: tuple[str, ...] = ()


class WorkQueue(Protocol):
    """Where an executor gets its loads. Every load that was taken is given back by ``finished`` or ``died``."""

    def __len__(self) -> int:
        """Cells that wait to be taken."""
        ...

    def share(self, workers: int) -> None:
        """So many workers will take loads."""
        ...

    def take(self) -> WorkItem | None:
        """The next load; None when nothing can be begun now: ask again until it is ``over``."""
        ...

    def finished(self, load: WorkItem, count: int) -> None:
        """A worker ran the first ``count`` cells of a load; the others are to be run yet."""
        ...

    def died(self, load: WorkItem, why: str = "") -> Cell | None:
        """A worker died with a load. Returns the cell that does it, once that is known; it will not be run again."""
        ...

    def over(self) -> bool:
        """Whether no load will come any more."""
        ...


_Group = tuple[str, "RungTarget | None"]
"""Signature and leg."""


class PackQueue:
    """A supply of ``cells`` in the sweep's order; those that can share a pack and a leg are handed out together.

    ``limit``: the widest pack to hand out; ``width``: how many of them fit a pack, where that is known. The workers
    share a group evenly. ``name``: what cells have in common that
    are handed out together, all that a pack needs without it.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        limit: int,
        workers: int = 1,
        width: int | None = None,
        name: Callable[[Cell], str] | None = None,
    ) -> None:
        self._workers, self._limit, self._width, self._name = max(1, workers), limit, width, name or _signature
        self._groups: dict[_Group, deque[Cell]] = {}
        self._widths: dict[str, int] = {}
        self._packs: dict[_Group, int] = {}  # that a group's waiting cells are to make
        self._legs: dict[str, RungTarget] = {}
        self._again: deque[WorkItem] = deque()
        self._out = 0  # cells that are being run
        self.put(cells)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values())) + sum(len(load.cells) for load in self._again)

    def share(self, workers: int) -> None:
        self._workers = max(1, workers)

    def put(self, cells: Iterable[Cell], legs: Mapping[str, RungTarget] | None = None) -> None:
        """More cells to run; ``legs`` by uid are remembered for cells that come back."""
        self._legs |= legs or {}
        for cell in cells:
            name = self._name(cell), self._legs.get(cell.uid) if self._legs else None
            self._groups.setdefault(name, deque()).append(cell)
            self._packs.pop(name, None)

    def take(self) -> WorkItem | None:
        load = self._next()
        self._out += len(load.cells) if load else 0
        return load

    def finished(self, load: WorkItem, count: int) -> None:
        self._out -= len(load.cells)
        name = self._name(load.cells[0]), load.leg
        if load.width is None and len(load.cells) > 1 and count:
            self._widths[name[0]] = count
            self._packs.pop(name, None)
        if count < len(load.cells):
            self._groups.setdefault(name, deque()).extendleft(reversed(load.cells[count:]))
            self._packs.pop(name, None)

    def died(self, load: WorkItem, why: str = "") -> Cell | None:
        """It is tried again, in halves, until the cell that does it is alone; that one has ``ATTEMPTS``."""
        cells = load.cells
        self._out -= len(cells)
        if len(cells) > 1:
            half = len(cells) // 2
            halves = (cells[half:], cells[:half])
            splits = (*load.splits, f"a pack of {len(cells)} trials was split in halves: {why or 'its worker died'}")
            self._again.extendleft(WorkItem(part, len(part), leg=load.leg, splits=splits) for part in halves)
            return None
        if load.attempt < ATTEMPTS:
            self._again.appendleft(replace(load, width=1, attempt=load.attempt + 1))
            return None
        return cells[0]

    def keep(self, load: WorkItem, cells: Sequence[Cell]) -> WorkItem | None:
        """Leaves but these cells of a load that was just taken; the others are nobody's business here any more."""
        self._out -= len(load.cells) - len(cells)
        return replace(load, cells=tuple(cells)) if cells else None

    def over(self) -> bool:
        return not self._out and not len(self)

    def _next(self) -> WorkItem | None:
        if self._again:
            return self._again.popleft()
        for name, group in self._groups.items():
            if group:
                width = self._widths.get(name[0], self._width)
                packs = self._packs.get(name) or self._even(len(group), min(width or self._limit, self._limit))
                self._packs[name] = packs - 1
                count = -(-len(group) // packs)
                return WorkItem(tuple(group.popleft() for _ in range(count)), width, leg=name[1])
        return None

    def _even(self, waiting: int, width: int) -> int:
        """Packs that waiting cells make: of like size, and as many as keep all workers busy."""
        packs = -(-waiting // width)
        return -(-packs // self._workers) * self._workers if waiting >= self._workers else packs


def _signature(cell: Cell) -> str:
    from dse.pack.grouping import signature

    return signature(cell.trial)


__all__ = ["ATTEMPTS", "PackQueue", "WorkItem", "WorkQueue"]
