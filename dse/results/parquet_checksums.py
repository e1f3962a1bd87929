"""Checksums over every byte of the Parquet file of results: which of its row groups are as they were written.

Parquet's own page checksums, which are written too, leave out page headers and the footer. So the footer's metadata
has, under KEY, a text of hexadecimal digits: the CRC-32 of the footer (with zeros in its own place), and one of each
row group with everything up to the next. A row group counts as a whole, for every reader: what is damaged in one
column is no result in any. A copy of the footer lies beside the file, because nothing can be read without it.
"""

from __future__ import annotations

import io
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData, ParquetWriter

KEY = b"dse.crc32"
_HEAD = b"dse-crc32:"
"""Begins the text, and tells where in the footer it is."""
_DIGITS = 8
_END = 8  # bytes behind the footer: its length and Parquet's mark
_BLOCK = 1 << 22


@dataclass(frozen=True)
class CheckedTable:
    """The readable row groups of a file, ``good``, and the damaged ones, ``bad``; ``metadata`` opens the file."""

    metadata: FileMetaData
    good: tuple[int, ...]
    bad: tuple[int, ...] = ()
    footer: bool = True
    """Whether the file's own footer is whole."""


def reserve(writer: ParquetWriter, groups: int) -> None:
    """Makes room for the checksums, once all row groups are written."""
    writer.add_key_value_metadata({KEY: _HEAD + b"0" * _DIGITS * (groups + 1)})


def stamp(path: Path) -> None:
    """Writes the checksums into a finished file, durably."""
    from pyarrow import parquet

    with path.open("r+b") as file:
        metadata, start = parquet.read_metadata(file), _footer_start(file)
        sums = b"".join(f"{_sum(file, *span):08x}".encode() for span in _spans(metadata, start))
        file.seek(start)
        footer = bytearray(file.read())
        at = footer.index(_HEAD) + len(_HEAD)
        footer[at + _DIGITS : at + _DIGITS + len(sums)] = sums
        footer[at : at + _DIGITS] = f"{zlib.crc32(footer):08x}".encode()
        file.seek(start)
        file.write(footer)
        file.flush()
        os.fsync(file.fileno())


def keep_footer(path: Path) -> None:
    """Copies the footer beside the file; without a copy it is the only one."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(_footer_start(file))
        _copy(path).write_bytes(file.read())


def check(path: Path, file: BinaryIO) -> CheckedTable | None:
    """The check of an open file's row groups; None for a file from before there were checksums.

    Raises OSError or ValueError (pyarrow's are) when neither its footer nor the copy can be read.
    """
    footers = [_own_footer(file)]
    with suppress(OSError):
        footers.append(_copy(path).read_bytes())
    found = [_table(file, footer, own=not i) for i, footer in enumerate(footers) if _fits(footer)]
    found.sort(key=lambda table: (len(table.good), table.footer))
    if found and (found[-1].good or found[-1].footer):
        return found[-1]
    if _HEAD in footers[0]:
        raise ValueError("its footer is damaged")
    return None


def _table(file: BinaryIO, footer: bytes, own: bool) -> CheckedTable:
    """The check of the file's row groups against a footer that is whole."""
    from pyarrow import parquet

    size = file.seek(0, os.SEEK_END)
    metadata = parquet.read_metadata(io.BytesIO(b"PAR1" + footer))
    sums = metadata.metadata[KEY][len(_HEAD) + _DIGITS :]
    spans = _spans(metadata, size - len(footer))
    good = [
        i
        for i, span in enumerate(spans)
        if f"{_sum(file, *span):08x}".encode() == sums[i * _DIGITS : (i + 1) * _DIGITS]
    ]
    return CheckedTable(metadata, tuple(good), tuple(i for i in range(len(spans)) if i not in good), own)


def _fits(footer: bytes) -> bool:
    at = footer.find(_HEAD) + len(_HEAD)
    blank = footer[:at] + b"0" * _DIGITS + footer[at + _DIGITS :]
    return _HEAD in footer and f"{zlib.crc32(blank):08x}".encode() == footer[at : at + _DIGITS]


def _spans(metadata: FileMetaData, end: int) -> list[tuple[int, int]]:
    """The byte range of each row group; the first begins at 0, each ends where the next begins."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    starts = [min(_start(group.column(j)) for j in range(group.num_columns)) for group in groups]
    return list(pairwise([0, *starts[1:], end])) if starts else []


def _start(chunk: Any) -> int:
    return int(chunk.dictionary_page_offset or chunk.data_page_offset)


def _sum(file: BinaryIO, start: int, end: int) -> int:
    value = 0
    file.seek(start)
    while start < end and (block := file.read(min(_BLOCK, end - start))):
        value, start = zlib.crc32(block, value), start + len(block)
    return value


def _own_footer(file: BinaryIO) -> bytes:
    file.seek(_footer_start(file))
    return file.read()


def _footer_start(file: BinaryIO) -> int:
    """Of the footer with its length and mark; the file's end where they make no sense."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END))
    length = int.from_bytes(file.read(4), "little")
    return size - _END - length if length <= size - _END else size


def _copy(path: Path) -> Path:
    return path.with_name(f".{path.name}.footer")


__all__ = ["CheckedTable", "check", "keep_footer", "reserve", "stamp"]
