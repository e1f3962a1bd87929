"""What other drivers have added to a results folder since one looked last, at the cost of what is new alone."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from dse.results import parquet
from dse.results.record import Record
from dse.results.shards import SUFFIX, Parser

_BLOCK = 1 << 16


class ResultWatcher:
    """Begins at the folder's present end. ``skip``: a shard that is not read, because one writes it oneself."""

    def __init__(self, shards: Path, table: Path) -> None:
        self._shards, self._table = shards, table
        self._read: dict[str, int] = {}
        self._parsers: dict[str, Parser] = {}
        self._compacted = _state(table)
        for name, path in self._files():
            with suppress(OSError):
                self._read[name] = _whole(path)

    def fresh(self, uids: Collection[str] | None, skip: Path | None = None) -> list[Record]:
        """The records of some trials, or of all, that have come since; after a compaction also those that are older.

        Trials that are not asked for are not found later either.
        """
        found = []
        files = self._files()
        for name, path in files:
            if path != skip:
                found += self._tail(name, path)
        self._read = {name: self._read[name] for name, _ in files if name in self._read}
        if (state := _state(self._table)) != self._compacted:  # asked after the shards: they are removed last
            self._compacted = state
            if (frame := parquet.read(self._table, uids)) is not None:
                found += parquet.from_frame(frame)
        return found if uids is None else [record for record in found if record.uid in uids]

    def _files(self) -> list[tuple[str, Path]]:
        return sorted((path.name, path) for path in self._shards.glob("*" + SUFFIX))

    def _tail(self, name: str, path: Path) -> list[Record]:
        """The whole lines that have been added to a shard; lines that are no record are left out."""
        start = self._read.get(name, 0)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size == start:
                    return []
                file.seek(start)
                content = file.read()
        except OSError:  # compacted: its records are in the table
            return []
        content = content[: content.rfind(b"\n") + 1]
        self._read[name] = start + len(content)
        parser = self._parsers.setdefault(name, Parser())
        found = (parser.record(line) for line in content.split(b"\n")[:-1])
        return [record for record in found if record]


def _whole(path: Path) -> int:
    """Bytes of a shard's whole lines; it may be large, so it is read from its end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            if (at := file.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0


def _state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_ino, stat.st_mtime_ns
