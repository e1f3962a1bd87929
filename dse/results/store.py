"""The results folder: all records of a folder, in append-only shards that are compacted into one Parquet file.

MLflow, reports and the Optuna file are made from it. ``append`` and ``records`` of shards need the standard library
only. Every driver writes a shard of its own; any process may read at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.results import parquet
from dse.results.compaction import finished, merge
from dse.results.lock import folder_lock
from dse.results.record import BRIEF, DIVERGED, OK, STOPPED, Record, Status
from dse.results.shard_writer import ShardWriter
from dse.results.shards import Shard, read_shard, remove_shard, shard_paths

if TYPE_CHECKING:
    import polars as pl

_COMPACT = ".compact"
_NAMED = 3
"""Damaged places that are named."""
_RANK: dict[Status, int] = {OK: 3, DIVERGED: 2, STOPPED: 1}


@dataclass(frozen=True)
class Damage:
    """Results that the last reading skipped: ``torn`` last lines of shards (their writer was killed), and ``places``
    that are damaged: lines of shards, row groups of the Parquet file."""

    torn: int = 0
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for people, empty without any damage."""
        parts = list[str]()
        if self.places:
            more = f" and {len(self.places) - _NAMED} more places" if len(self.places) > _NAMED else ""
            parts.append(f"damaged, and left out: {', '.join(self.places[:_NAMED])}{more}")
        if self.torn:
            parts.append(f"{self.torn} shards end in a torn line, because their driver was killed")
        return f"{'; '.join(parts)}: those trials count as not run, and `dse run` runs them" if parts else ""


class Store:
    """All results of a folder, one record per uid: a success beats a divergence beats a failure, then newest wins.

    >>> store = Store(Path("results"))
    >>> store.done()  # doctest: +SKIP
    {'3f0c6a5e9d2b4781': 'ok'}
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.parquet = self.folder / "trials.parquet"
        self.damage = Damage()
        self.shards = self.folder / "shards"
        self._writer = ShardWriter(self.shards)
        self._locked = False

    def append(self, *records: Record) -> None:
        """Stores finished trials durably, all or none. Raises UserError when the folder cannot be written."""
        self._writer.append(*(record.line() for record in records))

    def records(
        self, uids: Collection[str] | None = None, brief: bool = False, without: Sequence[str] = ()
    ) -> list[Record]:
        """The records of some trials, or of all, in a stable order (by task, config, seed, uid).

        ``without``: names of LARGE fields that are not wanted; ``brief``: of all but ``evals``, which is several times
        as fast.
        """
        without = BRIEF if brief else without
        wanted = None if uids is None else frozenset(uids)
        # first the shards, then the Parquet file: a compaction meanwhile only moves records towards it
        loose = self._loose(without, wanted)
        frame = parquet.read(self.parquet, wanted, parquet.without(without) if without else None)
        packed = [] if frame is None else parquet.from_frame(frame)
        found = resolve([*packed, *(r for r in loose if wanted is None or r.uid in wanted)])
        return sorted(found.values(), key=lambda r: (r.task, r.config, r.seed, r.uid))

    def done(self) -> dict[str, Status]:
        """uid -> status of every trial with a result."""
        loose = self._loose(BRIEF)
        frame = parquet.read(self.parquet, columns=["uid", "status"])
        found: dict[str, Status] = {} if frame is None else dict(frame.iter_rows())
        for record in resolve(loose).values():
            if record.uid not in found or _RANK.get(record.status, 0) >= _RANK.get(found[record.uid], 0):
                found[record.uid] = record.status
        return found

    def frame(self, uids: Collection[str] | None = None) -> pl.DataFrame:
        """The records as a polars frame, nested fields as JSON text."""
        return parquet.to_frame(self.records(uids))

    @property
    def own(self) -> Path | None:
        """The shard that this process is writing."""
        return self._writer.path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The right to write projections (MLflow), for as long as a sweep runs. Raises InUse, naming who has it."""
        if self._locked:
            yield
            return
        with folder_lock(self.folder):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def compact(self) -> int:
        """Moves the records of finished shards into the Parquet file; returns how many shards that were.

        The shards are removed after the file is in place and durable; killed anywhere, it leaves every record in at
        least one of the two, and readers count it once. Shards that are still written to stay; those with lines that
        nobody can read, and a damaged Parquet file, are put aside (``put_aside``). Without polars and pyarrow nothing
        happens: the shards wait for a machine that has them. Raises InUse when another process is at it, OSError when
        the disk is full.
        """
        if find_spec("polars") is None or find_spec("pyarrow") is None:
            return 0
        with folder_lock(self.folder, _COMPACT):
            self._writer.close()
            shards = [shard for path in shard_paths(self.shards) if (shard := finished(path))]
            if shards:
                merge(self.parquet, shards, resolve)
            for shard in shards:
                remove_shard(shard)
        return len(shards)

    @property
    def notes(self) -> Sequence[str]:
        """Events of this process's shard that the user should know of, a line each."""
        return self._writer.notes

    def close(self) -> None:
        """Ends this process's shard. Raises UserError when it has gone, and what it held cannot be stored again."""
        self._writer.close()

    def _loose(self, without: Sequence[str] = (), uids: Collection[str] | None = None) -> list[Record]:
        if self.folder.is_file():
            raise UserError(f"results folder {self.folder} is a file, not a folder")
        shards = [shard for path in shard_paths(self.shards) if (shard := read_shard(path, without, uids))]
        places = [place for shard in shards for place in _places(shard)] + parquet.damage(self.parquet)
        self.damage = Damage(sum(s.torn for s in shards), tuple(places))
        return [record for shard in shards for record in shard.records]


def _places(shard: Shard) -> list[str]:
    return [f"{shard.path} line {number}" for number in shard.bad]


def resolve(records: Iterable[Record]) -> dict[str, Record]:
    """One record per uid, given oldest source first."""
    best: dict[str, Record] = {}
    for record in records:
        if record.uid not in best or _order(record) >= _order(best[record.uid]):
            best[record.uid] = record
    return best


def _order(record: Record) -> tuple[int, int, str, int]:
    """The attempt tells which is newer, whatever clocks say; of one attempt, or from before attempts were counted, the
    time does. Of two that began in the same second, the one that got further is the newer one."""
    return _RANK.get(record.status, 0), record.attempt, record.started, record.stopped.get("step", 0)


__all__ = ["Damage", "Store", "resolve"]
