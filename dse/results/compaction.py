"""Compaction: moves the records of finished shards into the Parquet file, a few records in memory at a time.

The first pass finds which records of each trial are kept, from records without their large fields; the second copies
those, row group by row group. A probed trial takes megabytes as Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dse.results import parquet
from dse.results.record import LARGE, Record
from dse.results.shards import Line, Shard, lines, put_aside, shard_lock

if TYPE_CHECKING:
    import polars as pl

Keep = Callable[[Iterable[Record]], Iterable[Record]]
"""The records that are kept, given the oldest source first."""


def merge(path: Path, shards: Sequence[Shard], keep: Keep) -> None:
    """Adds the records of finished shards (``finished``) to the Parquet file, in one step (``parquet.write``)."""
    frame = parquet.read(path, columns=parquet.without(tuple(LARGE)))
    packed = [] if frame is None else parquet.from_frame(frame)
    counting = {id(r) for r in keep([*packed, *(r for s in shards for r in s.records)])}

    def groups() -> Iterator[pl.DataFrame]:
        wanted = [id(r) in counting for r in packed]
        for old in parquet.batches(path) if packed else ():
            here, wanted = wanted[: old.height], wanted[old.height :]
            yield parquet.complete(old.filter(here))
        for some in _portions(line for s in shards for line in _counting(s, counting)):
            yield parquet.to_frame(some)

    if parquet.damage(path):
        put_aside(path, path.parent)
    parquet.write(groups(), path)


def finished(path: Path) -> Shard | None:
    """A shard that can go into the Parquet file, because its writer is gone.

    Its records are without their large fields; lines that nobody can read are noted.
    """
    records, bad, size = list[Record](), list[int](), 0
    with shard_lock(path) as mine:
        if not mine:
            return None
        for number, line in enumerate(lines(path), 1):
            if line.record:
                records.append(replace(line.record, **{name: make() for name, make in LARGE.items()}))
            elif not line.torn:
                bad.append(number)
            size += line.size
    return Shard(path, records, size=size, bad=tuple(bad))


def _counting(shard: Shard, counting: set[int]) -> Iterator[Line]:
    """The lines whose records count."""
    whole = (line for line in lines(shard.path) if line.record)
    return (line for line, seen in zip(whole, shard.records, strict=True) if id(seen) in counting)


def _portions(found: Iterable[Line]) -> Iterator[list[Record]]:
    """Records of about parquet.GROUP bytes at a time."""
    some, size = list[Record](), 0
    for line in found:
        if line.record:
            some.append(line.record)
            size += line.size
        if size >= parquet.GROUP:
            yield some
            some, size = [], 0
    if some:
        yield some
