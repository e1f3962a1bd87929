"""The Parquet file of records: the compacted form of finished shards.

Plain fields of a record are typed columns, nested ones are JSON text, so reading gives back equal records. Damaged row
groups (``parquet_checksums``) are left out by every reader. polars and pyarrow are imported by the functions that need
them: a machine with only torch can write shards, which are compacted elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dse.errors import UserError
from dse.files import replacing, sync_folder, unreadable
from dse.results.parquet_checksums import CheckedTable, check, keep_footer, reserve, stamp
from dse.results.record import OK, Record, field_kinds

if TYPE_CHECKING:
    import polars as pl
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

_COLUMNS = {name: kind.removesuffix(" | None") for name, kind in field_kinds().items()}
"""Field -> its type's name; whatever is not a plain type is stored as JSON text."""
GROUP = 8 << 20
"""Bytes in a row group, about."""
_PLAIN = {"str": "String", "int": "Int64", "float": "Float64"}


def to_frame(records: Iterable[Record]) -> pl.DataFrame:
    """One row per record, one column per field."""
    import polars as pl

    rows = [[_cell(getattr(r, name), kind) for name, kind in _COLUMNS.items()] for r in records]
    schema = {name: getattr(pl, _PLAIN.get(kind, "String")) for name, kind in _COLUMNS.items()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def from_frame(frame: pl.DataFrame) -> list[Record]:
    """The records of a frame; columns this version does not know are ignored, absent ones take their default."""
    kinds = {name: kind for name, kind in _COLUMNS.items() if name in frame.columns}
    return [
        Record(**{name: value if kinds[name] in _PLAIN else json.loads(value) for name, value in row.items()})
        for row in frame.select(list(kinds)).iter_rows(named=True)
    ]


def without(names: Collection[str]) -> list[str]:
    """All columns but some."""
    return [name for name in _COLUMNS if name not in names]


def read(path: Path, uids: Collection[str] | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
    """The compacted rows (of some uids, some columns); None when nothing has been compacted yet."""
    if not path.exists():
        return None
    try:
        import polars as pl
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError(f"{path} can only be read with polars and pyarrow: pip install polars pyarrow") from None
    frames = list(batches(path, uids, columns))
    return pl.concat(frames) if frames else to_frame([]).select(columns or list(_COLUMNS))


def batches(
    path: Path, uids: Collection[str] | None = None, columns: Sequence[str] | None = None
) -> Iterator[pl.DataFrame]:
    """The rows (of some uids, some columns) in their order, those of about GROUP bytes at a time.

    A file from before a field was added lacks its column; columns that this version does not know are left out.
    """
    import polars as pl
    import pyarrow as pa
    from pyarrow import compute

    wanted = None if uids is None else pa.array(sorted(uids), pa.large_string())
    with _opened(path) as (file, groups):
        names = [name for name in columns or _COLUMNS if name in file.schema_arrow.names]
        read = names if wanted is None else list({"uid", *names})
        for batch in _batches(file, groups, read):
            if wanted is not None:  # by a copy: the rest of the batch is freed
                batch = batch.filter(compute.is_in(batch["uid"].cast(pa.large_string()), wanted))
            if len(batch):
                yield pl.DataFrame(batch.select(names))


def damage(path: Path) -> list[str]:
    """The row groups that nobody can read, in words; and a damaged footer, of which there was a copy."""
    if not path.exists():
        return []
    with _opened(path) as (file, _):
        table = _looked_at[path][1]
        rows = [(i, file.metadata.row_group(i).num_rows) for i in table.bad]
    found = [f"{path} row group {i} ({count} trials)" for i, count in rows]
    return found if table.footer else [f"{path} footer (no trials)", *found]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ParquetFile, Sequence[int]]]:
    """The file, one and the same even if it is replaced meanwhile, and its row groups that can be read.

    Raises UserError when none of it can be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with path.open("rb", buffering=1 << 20) as raw:
            table = _look_at(path, raw)
            raw.seek(0)
            with parquet.ParquetFile(raw, metadata=table.metadata, page_checksum_verification=True) as file:
                yield file, table.good
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError, pa.ArrowException) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be read: {said}; move it away and run the sweep again: what was in it runs again"
        ) from None


_looked_at: dict[Path, tuple[tuple[int, ...], CheckedTable]] = {}
"""Path -> the file's state (device, inode, size, time) and its check, kept because a check reads every byte."""


def _look_at(path: Path, raw: BinaryIO) -> CheckedTable:
    """The row groups that can be read; of a file without checksums, those whose records can be decoded."""
    from pyarrow import parquet

    stat = os.fstat(raw.fileno())
    now = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
    if path in _looked_at and _looked_at[path][0] == now:
        return _looked_at[path][1]
    table = check(path, raw)
    if table is None:
        raw.seek(0)
        file = parquet.ParquetFile(raw, page_checksum_verification=True)
        groups = range(file.num_row_groups)
        good = tuple(i for i in groups if _decodes(file, i))
        table = CheckedTable(file.metadata, good, tuple(i for i in groups if i not in good))
    _looked_at[path] = now, table
    return table


def _decodes(file: ParquetFile, group: int) -> bool:
    import polars as pl

    names = [name for name in _COLUMNS if name in file.schema_arrow.names]
    rows = 0
    try:
        for batch in _batches(file, [group], names):
            batch.validate(full=True)
            rows += len(from_frame(pl.DataFrame(batch)))
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001 - a panic is no Exception
        return False
    return bool(rows == file.metadata.row_group(group).num_rows)


def _batches(file: ParquetFile, groups: Iterable[int], columns: list[str]) -> Iterator[RecordBatch]:
    """Row group by row group: a reader of several keeps what it has read of all."""
    for i in groups:
        group = file.metadata.row_group(i)
        rows = max(1, GROUP * group.num_rows // max(1, group.total_byte_size))
        yield from file.iter_batches(rows, row_groups=[i], columns=columns)


def complete(frame: pl.DataFrame) -> pl.DataFrame:
    """Fields that were added after the file was written get their default."""
    rows = to_frame([Record("", "", OK, "", "", "", 0, {})] * frame.height)
    return rows.with_columns(frame.cast({name: rows.schema[name] for name in frame.columns}))


def write(frames: Iterable[pl.DataFrame], path: Path) -> None:
    """Replaces the file in one step, row group by row group: whoever reads sees the old rows or the new ones, also
    after a crash. Raises OSError when the disk is full; the file is then as it was."""
    import polars as pl
    from pyarrow import parquet

    groups = 0
    schema = to_frame([]).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    plain = [name for name, kind in _COLUMNS.items() if kind in _PLAIN]
    with replacing(path, path.with_name(path.name + ".tmp"), durable=False) as draft:
        with draft.open("wb") as file:
            settings = {"compression": "zstd", "use_dictionary": plain, "write_page_checksum": True}
            with parquet.ParquetWriter(file, schema, **settings) as writer:
                for frame in _grouped(frames):
                    rows, groups = frame.to_arrow(compat_level=pl.CompatLevel.oldest()), groups + 1
                    writer.write_table(rows, row_group_size=max(1, len(rows)))
                reserve(writer, groups)
        stamp(draft)  # which makes it durable
    keep_footer(path)
    sync_folder(path.parent)


def _grouped(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Small frames joined: many small compactions make no file of many small groups."""
    import polars as pl

    some, size = list[pl.DataFrame](), 0
    for frame in frames:
        some.append(frame)
        size += int(frame.estimated_size())
        if size >= GROUP:
            yield pl.concat(some)
            some, size = [], 0
    if size:
        yield pl.concat(some)


def _cell(value: Any, kind: str) -> Any:
    return value if kind in _PLAIN else json.dumps(value, separators=(",", ":"))


__all__ = ["batches", "complete", "damage", "from_frame", "read", "to_frame", "without", "write"]
