"""The queue of a sweep: cells that wait for a worker, handed out as packs.

A worker may run fewer cells of a pack than it was handed, or die with it; the others are queued again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dse.sweep import Cell
    from dse.train.halving import RungTarget

ATTEMPTS = 2
"""A trial whose worker died this often while it ran alone is the cause."""


@dataclass(frozen=True)
class WorkItem:
    """Cells of one signature for one worker. ``width``: how many of them fit a pack, None where it must measure that.

    ``attempt``: 1 for the first; ``target``: how far they are to train, where halving stops some. ``splits``: why they
    are no longer in a larger pack, a line each.
    """

    cells: tuple[Cell, ...]
    width: int | None
    attempt: int = 1
    target: RungTarget | None = None
    splits: tuple[str, ...] = ()


class WorkQueue(Protocol):
    """Where an executor gets its work. Every item that was taken is returned by ``done`` or ``requeue``."""

    def __len__(self) -> int:
        """Cells that wait to be taken."""
        ...

    def set_workers(self, count: int) -> None:
        """How many workers will take items."""
        ...

    def take(self) -> WorkItem | None:
        """The next item; None when nothing can be started now: ask again until the queue is ``exhausted``."""
        ...

    def done(self, item: WorkItem, count: int) -> None:
        """A worker ran the first ``count`` cells of an item; the others wait again."""
        ...

    def requeue(self, item: WorkItem, why: str = "") -> Cell | None:
        """A worker died with an item: its cells wait again, in halves. Returns the cell that kills its worker, once
        that is known; it will not be run again."""
        ...

    def exhausted(self) -> bool:
        """Whether no item will come any more."""
        ...


_GroupKey = tuple[str, "RungTarget | None"]
"""What cells of a pack have in common: their signature, and how far they train."""


class PackQueue:
    """A queue of ``cells`` in the sweep's order; those that fit one pack and have one target are handed out together.

    ``limit``: the widest pack to hand out; ``width``: how many of them fit a pack, where that is known. The workers
    share a group evenly. ``key``: what the cells of an item must have in common, by default all that a pack needs.
    ``order``: by which cells that wait together are sorted; None: as they came.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        limit: int,
        workers: int = 1,
        width: int | None = None,
        key: Callable[[Cell], str] | None = None,
        order: Callable[[Cell], Any] | None = None,
    ) -> None:
        self._workers, self._limit, self._width, self._key = max(1, workers), limit, width, key or _signature
        self._order = order
        self._groups: dict[_GroupKey, deque[Cell]] = {}
        self._widths: dict[str, int] = {}
        self._packs: dict[_GroupKey, int] = {}  # how many packs a group's waiting cells are to make
        self._targets: dict[str, RungTarget] = {}
        self._retries: deque[WorkItem] = deque()
        self._running = 0  # cells
        self.submit(cells)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values())) + sum(len(item.cells) for item in self._retries)

    def set_workers(self, count: int) -> None:
        self._workers = max(1, count)

    def submit(self, cells: Iterable[Cell], targets: Mapping[str, RungTarget] | None = None) -> None:
        """More cells to run; ``targets``: by uid, how far they are to train, also when they are submitted again."""
        self._targets |= targets or {}
        grown = set()
        for cell in cells:
            key = self._key(cell), self._targets.get(cell.uid) if self._targets else None
            self._groups.setdefault(key, deque()).append(cell)
            self._packs.pop(key, None)
            grown.add(key)
        if self._order:
            self._groups |= {key: deque(sorted(self._groups[key], key=self._order)) for key in grown}

    def take(self) -> WorkItem | None:
        item = self._next()
        self._running += len(item.cells) if item else 0
        return item

    def done(self, item: WorkItem, count: int) -> None:
        self._running -= len(item.cells)
        key = self._key(item.cells[0]), item.target
        if item.width is None and len(item.cells) > 1 and count:
            self._widths[key[0]] = count
            self._packs.pop(key, None)
        if count < len(item.cells):
            self._groups.setdefault(key, deque()).extendleft(reversed(item.cells[count:]))
            self._packs.pop(key, None)

    def requeue(self, item: WorkItem, why: str = "") -> Cell | None:
        """Halves wait again until the cell that kills its worker is alone; it then has ``ATTEMPTS``."""
        cells = item.cells
        self._running -= len(cells)
        if len(cells) > 1:
            half = len(cells) // 2
            halves = (cells[half:], cells[:half])
            splits = (*item.splits, f"a pack of {len(cells)} trials was split in halves: {why or 'its worker died'}")
            self._retries.extendleft(WorkItem(part, len(part), target=item.target, splits=splits) for part in halves)
            return None
        if item.attempt < ATTEMPTS:
            self._retries.appendleft(replace(item, width=1, attempt=item.attempt + 1))
            return None
        return cells[0]

    def narrow(self, item: WorkItem, cells: Sequence[Cell]) -> WorkItem | None:
        """An item that was just taken, with these of its cells alone; this queue forgets the others."""
        self._running -= len(item.cells) - len(cells)
        return replace(item, cells=tuple(cells)) if cells else None

    def exhausted(self) -> bool:
        return not self._running and not len(self)

    def _next(self) -> WorkItem | None:
        if self._retries:
            return self._retries.popleft()
        for key, group in self._groups.items():
            if group:
                width = self._widths.get(key[0], self._width)
                packs = self._packs.get(key) or self._even(len(group), min(width or self._limit, self._limit))
                self._packs[key] = packs - 1
                count = -(-len(group) // packs)
                return WorkItem(tuple(group.popleft() for _ in range(count)), width, target=key[1])
        return None

    def _even(self, waiting: int, width: int) -> int:
        """Packs that waiting cells make: of like size, and as many as keep all workers busy."""
        packs = -(-waiting // width)
        return -(-packs // self._workers) * self._workers if waiting >= self._workers else packs


def _signature(cell: Cell) -> str:
    from dse.pack.grouping import signature

    return signature(cell.trial)


def pack_order(device: str) -> Callable[[Cell], Any] | None:
    """The order in which a device is handed cells: on a GPU those that share kernels follow each other."""
    if not device.startswith("cuda"):
        return None
    from dse.pack.grouping import likeness

    return lambda cell: likeness(cell.trial)


__all__ = ["ATTEMPTS", "PackQueue", "WorkItem", "WorkQueue", "pack_order"]
