"""Incremental reader of other drivers' shards: each call reads only the bytes added since the last."""

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
    """Reads the records that are added to a results folder after it was made.

    ``shards``: the folder of the shards; ``table``: the Parquet file into which they are compacted.
    """

    def __init__(self, shards: Path, table: Path) -> None:
        self._shards, self._table = shards, table
        self._read: dict[str, int] = {}  # bytes of each shard
        self._parsers: dict[str, Parser] = {}
        self._table_version = _version(table)
        for name, path in self._shard_files():
            with suppress(OSError):
                self._read[name] = _length_of_whole_lines(path)

    def read_new(self, uids: Collection[str] | None, skip: Path | None = None) -> list[Record]:
        """Records of some trials, or of all, that were added since the last call; after a compaction also older ones.

        Records of other trials are passed over, and later calls do not return them. ``skip``: a shard that is not read,
        because this process writes it.
        """
        found = []
        files = self._shard_files()
        for name, path in files:
            if path != skip:
                found += self._read_added(name, path)
        self._read = {name: self._read[name] for name, _ in files if name in self._read}
        if (version := _version(self._table)) != self._table_version:  # after the shards, which are removed last
            self._table_version = version
            if (frame := parquet.read(self._table, uids)) is not None:
                found += parquet.from_frame(frame)
        return found if uids is None else [record for record in found if record.uid in uids]

    def _shard_files(self) -> list[tuple[str, Path]]:
        return sorted((path.name, path) for path in self._shards.glob("*" + SUFFIX))

    def _read_added(self, name: str, path: Path) -> list[Record]:
        """The records of the whole lines that were added to a shard; damaged lines are left out."""
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


def _length_of_whole_lines(path: Path) -> int:
    """Bytes of a shard up to the end of its last whole line. Reads from the end, because a shard may be large."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            if (at := file.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0


def _version(path: Path) -> tuple[int, int] | None:
    """Differs when a file has been replaced; None while there is none."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_ino, stat.st_mtime_ns


__all__ = ["ResultWatcher"]
