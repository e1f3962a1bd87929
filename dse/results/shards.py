"""Shards: append-only files of results, one line of JSON with a checksum per trial, one writer per file.

A shard belongs to the process that made it and is locked while that process lives (``shard_writer``). So only the last
line of a shard can be torn by a crash, and a process that gets its lock knows that the shard will not grow any more.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from dse.files import unreadable, unwritable
from dse.results.checksum import unseal
from dse.results.lock import try_lock
from dse.results.record import BRIEF, LARGE, Record

SUFFIX = ".jsonl"
DAMAGED = "damaged"
"""Folder of results for files with damaged lines, or row groups, once the rest of them is safe elsewhere."""


@dataclass(frozen=True)
class Shard:
    """The content of a shard file: its records in the order of writing, and which lines could not be read."""

    path: Path
    records: list[Record] = field(default_factory=list)
    torn: bool = False  # ends in the middle of a line: its writer died, and that trial counts as never run
    size: int = 0  # bytes read
    bad: tuple[int, ...] = ()  # numbers of whole lines that are no record: something else wrote here, or it is damaged


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, oldest first."""
    return sorted(folder.glob("*" + SUFFIX))


def read_shard(path: Path, without: Sequence[str] = (), uids: Collection[str] | None = None) -> Shard | None:
    """Reads one shard; None when a compaction has removed it (its records are in the Parquet file then).

    ``without``: names of LARGE fields that are not wanted; ``uids``: of these trials, the others may have none of them.
    """
    try:
        found = list(lines(path, without, uids))
    except FileNotFoundError:
        return None
    records = [line.record for line in found if line.record]
    return Shard(path, records, any(line.torn for line in found), sum(line.size for line in found), bad_lines(found))


def bad_lines(found: Iterable[Line]) -> tuple[int, ...]:
    """The numbers, from 1 on, of the whole lines that are no record."""
    return tuple(number for number, line in enumerate(found, 1) if line.record is None and not line.torn)


@dataclass(frozen=True)
class Line:
    """A line of a shard, of ``size`` bytes; ``record``: None where it is torn or no record."""

    record: Record | None
    size: int
    torn: bool = False


def lines(path: Path, without: Sequence[str] = (), uids: Collection[str] | None = None) -> Iterator[Line]:
    """The lines of a shard (see ``read_shard``), one after another: it may be larger than memory.

    Raises FileNotFoundError, UserError.
    """
    try:
        with path.open("rb") as file:
            parser = Parser()
            for line in file:
                whole = line.endswith(b"\n")
                record = parser.record(line[:-1], without, uids) if whole else None
                yield Line(record, len(line), not whole)
                if not whole:  # the rest of it may come while this is read
                    return
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None


class Parser:
    """Reads the lines of one shard in their order, for every reader: what one takes for a result, all do.

    A shard is written by one process, so behind a line with a checksum a line without one is damaged.
    """

    def __init__(self) -> None:
        self._sealed = False

    def record(self, line: bytes, without: Sequence[str] = (), uids: Collection[str] | None = None) -> Record | None:
        """The record of a line (without its newline; see ``read_shard``); None where it is damaged or no record."""
        try:
            content, sealed = unseal(line)
            if self._sealed and not sealed:
                return None
            self._sealed = sealed
            if sealed:
                return _wanted(content, without, uids)
            return _bare(Record.parse(content.decode()), without)  # all of it, or a damaged curve would pass
        except ValueError:
            return None


def _wanted(line: bytes, without: Sequence[str], uids: Collection[str] | None) -> Record:
    if uids is not None and not set(BRIEF) <= set(without):
        brief = _parse(line, tuple(LARGE))
        if brief.uid not in uids:
            return brief
    return _parse(line, without)


_AFTER = "diverged_at"
"""The field behind the large ones."""


def _parse(line: bytes, without: Sequence[str]) -> Record:
    """A record without some large fields, which are cut out of the text: most of the time goes into their numbers."""
    if without:
        short = line
        for name, after in pairwise([*LARGE, _AFTER]):
            start, end, last = (short.find(f',"{key}":'.encode()) for key in (name, after, _AFTER))
            if name in without and 0 <= start < end <= last:  # in earlier versions some stood elsewhere
                short = short[:start] + short[end:]
        with suppress(ValueError):  # another order of the keys
            return _bare(Record.parse(short.decode()), without)
    return _bare(Record.parse(line.decode()), without)


def _bare(record: Record, without: Sequence[str]) -> Record:
    """Lines of an earlier version have their keys in another order."""
    return replace(record, **{name: LARGE[name]() for name in without if getattr(record, name)})


@contextmanager
def shard_lock(path: Path) -> Iterator[bool]:
    """Whether nobody writes to a shard; nobody can start to while the context lasts."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    except OSError as error:
        raise unwritable(path.parent.parent, error) from None
    try:
        yield try_lock(fd)
    finally:
        os.close(fd)


def remove_shard(shard: Shard) -> None:
    """Deletes a shard whose records are safe elsewhere, unless it has changed since it was read.

    One with damaged lines is put aside: into the folder DAMAGED of the results.
    """
    with shard_lock(shard.path) as mine:
        if mine and shard.path.stat().st_size == shard.size:
            if shard.bad:
                put_aside(shard.path, shard.path.parent.parent)
            os.unlink(shard.path)  # noqa: PTH108 - the step that tests interrupt


def put_aside(path: Path, results: Path) -> None:
    """Keeps a damaged file of a results folder under a second name, in its folder DAMAGED."""
    stat, folder = path.stat(), results / DAMAGED
    folder.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        (folder / f"{path.stem}-{stat.st_mtime_ns:x}{path.suffix}").hardlink_to(path)


__all__ = ["DAMAGED", "SUFFIX", "Line", "Parser", "Shard", "bad_lines", "lines", "put_aside", "read_shard"]
__all__ += ["remove_shard", "shard_lock", "shard_paths"]
