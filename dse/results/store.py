"""The results folder: all records of a folder, in append-only shards that are compacted into one Parquet file.

MLflow, reports and the Optuna file are made from it. ``append`` and ``records`` of shards need the standard library
only. Every driver writes a shard of its own; any process may read at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.results import parquet
from dse.results.by_device import RANK, TrialRecords, kept
from dse.results.compaction import finished, merge
from dse.results.lock import folder_lock
from dse.results.record import BRIEF, Record, Status
from dse.results.shard_writer import ShardWriter
from dse.results.shards import Shard, read_shard, remove_shard, shard_paths

if TYPE_CHECKING:
    import polars as pl

_COMPACT = ".compact"
_NAMED = 3
"""Damaged places that are named."""


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
    """All results of a folder: of each trial one record for every kind of device on which it ended, the newest one.

    A success beats a divergence beats a failure; which of several kinds counts, ``dse.results.by_device`` tells.

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
        """The records that count of some trials, or of all, one each, in a stable order (by task, config, seed, uid).

        Where trials have run on several kinds of device, which one counts depends on the trials asked for
        (``TrialRecords``). ``without``: names of LARGE fields that are not wanted; ``brief``: of all but ``evals``,
        which is several times as fast.
        """
        return sorted(TrialRecords.of(self._kept(uids, brief, without)).counting.values(), key=_place)

    def on_each_device(
        self, uids: Collection[str] | None = None, brief: bool = False, without: Sequence[str] = ()
    ) -> list[Record]:
        """The same of every kind of device: several records of a trial that ended on several."""
        return sorted(self._kept(uids, brief, without), key=lambda record: (*_place(record), record.device))

    def _kept(self, uids: Collection[str] | None, brief: bool, without: Sequence[str]) -> list[Record]:
        without = BRIEF if brief else without
        wanted = None if uids is None else frozenset(uids)
        # first the shards, then the Parquet file: a compaction meanwhile only moves records towards it
        loose = self._loose(without, wanted)
        frame = parquet.read(self.parquet, wanted, parquet.without(without) if without else None)
        packed = [] if frame is None else parquet.from_frame(frame)
        return kept([*packed, *(r for r in loose if wanted is None or r.uid in wanted)])

    def done(self) -> dict[str, Status]:
        """uid -> status of every trial with a result, on whatever device: that of the record that counts."""
        loose = [(record.uid, record.status) for record in self._loose(BRIEF)]
        frame = parquet.read(self.parquet, columns=["uid", "status"])
        found: dict[str, Status] = {}
        for uid, status in [*(() if frame is None else frame.iter_rows()), *loose]:
            if uid not in found or RANK.get(status, 0) > RANK.get(found[uid], 0):
                found[uid] = status
        return found

    def frame(self, uids: Collection[str] | None = None) -> pl.DataFrame:
        """The records of ``records`` as a polars frame, nested fields as JSON text."""
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
                merge(self.parquet, shards, kept)
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


def _place(record: Record) -> tuple[str, str, int, str]:
    return record.task, record.config, record.seed, record.uid


__all__ = ["Damage", "Store"]
