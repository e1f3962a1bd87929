"""Append-only files of results: one line of JSON per trial, one writer per file.

A file belongs to the process that made it and is locked while that process lives, so a line that a crash tears can
only be the last one of its own file, and whoever gets the lock of a shard knows that it will not grow any more.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from dse.errors import UserError
from dse.run.lock import try_lock, unwritable
from dse.run.record import BRIEF, LARGE, Record

SUFFIX = ".jsonl"


class ShardWriter:
    """The shard of this process, made when the first line is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._path = folder
        self._pid = 0

    @property
    def path(self) -> Path | None:
        """The shard that is open for writing."""
        return None if self._fd is None else self._path

    def append(self, *lines: str) -> None:
        """Puts lines on the disk, in one write: when this returns, a crash cannot take them away.

        Raises UserError when the folder cannot be written or the disk is full; the file is then as it was before, or,
        where even that fails, ends in a torn line and is left alone from then on.
        """
        if self._fd is None or self._pid != os.getpid():  # a forked child must not share its parent's file
            self._open()
        assert self._fd is not None
        data = "".join(f"{line}\n" for line in lines).encode()
        size = os.fstat(self._fd).st_size
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, size)
            self.close()
            raise UserError(f"a result could not be written to {self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Ends the shard, so that it can be compacted; the next line starts another one."""
        if self._fd is not None and self._pid == os.getpid():
            os.close(self._fd)
        self._fd = None

    def _open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while True:
                path = self._folder / _name()
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
                if try_lock(fd) and os.fstat(fd).st_nlink:  # else a compaction took the empty file in between
                    break
                os.close(fd)
            sync_folder(self._folder)
        except OSError as error:
            raise unwritable(self._folder.parent, error) from None
        self._fd, self._path, self._pid = fd, path, os.getpid()


@dataclass(frozen=True)
class Shard:
    """What a shard file holds: its records in the order they were written, and what could not be read."""

    path: Path
    records: list[Record] = field(default_factory=list)
    torn: bool = False  # ends in the middle of a line: its writer died, and that trial counts as never run
    size: int = 0  # bytes read
    corrupt: int = 0  # whole lines that are no record: something else wrote here, or the disk is damaged


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
    corrupt = sum(line.record is None and not line.torn for line in found)
    return Shard(path, records, any(line.torn for line in found), sum(line.size for line in found), corrupt)


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
            for line in file:
                record = None
                if whole := line.endswith(b"\n"):
                    with suppress(ValueError):
                        record = _wanted(line[:-1], without, uids)
                yield Line(record, len(line), not whole)
                if not whole:  # the rest of it may come while this is read
                    return
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


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
    """Deletes a shard whose records are safe elsewhere, unless it has changed since it was read."""
    with shard_lock(shard.path) as mine:
        if mine and shard.path.stat().st_size == shard.size:
            os.unlink(shard.path)  # noqa: PTH108 - the step that tests interrupt


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable (a new or replaced file is one only after this)."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _name() -> str:
    host = re.sub(r"[^A-Za-z0-9.]+", "_", socket.gethostname())
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{host}-{os.getpid()}{SUFFIX}"


__all__ = ["Line", "Shard", "ShardWriter", "lines", "read_shard", "remove_shard", "shard_lock", "shard_paths"]
__all__ += ["sync_folder"]
