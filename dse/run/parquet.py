"""Records as one Parquet file: the compacted form of finished shards.

Plain fields of a record are typed columns, nested ones are JSON text, so reading gives back equal records. polars and
pyarrow are imported by the functions that need them: a machine with only torch can write shards, which are compacted
elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.run.record import Record
from dse.run.shards import sync_folder

if TYPE_CHECKING:
    import polars as pl
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

_COLUMNS = {f.name: str(f.type).removesuffix(" | None") for f in fields(Record)}
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
    from pyarrow import compute, parquet

    wanted = None if uids is None else pa.array(sorted(uids), pa.large_string())
    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20) as file:  # one file, even if it is replaced meanwhile
            names = [name for name in columns or _COLUMNS if name in file.schema_arrow.names]
            read = names if wanted is None else list({"uid", *names})
            for batch in _batches(file, read):
                if wanted is not None:  # by a copy: the rest of the batch is freed
                    batch = batch.filter(compute.is_in(batch["uid"].cast(pa.large_string()), wanted))
                if len(batch):
                    yield pl.DataFrame(batch.select(names))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def _batches(file: ParquetFile, columns: list[str]) -> Iterator[RecordBatch]:
    """Row group by row group: a reader of several keeps what it has read of all."""
    for i in range(file.num_row_groups):
        group = file.metadata.row_group(i)
        rows = max(1, GROUP * group.num_rows // max(1, group.total_byte_size))
        yield from file.iter_batches(rows, row_groups=[i], columns=columns)


def complete(frame: pl.DataFrame) -> pl.DataFrame:
    """Fields that were added after the file was written get their default."""
    rows = to_frame([Record("", "", "", "", "", "", 0, {})] * frame.height)
    return rows.with_columns(frame.cast({name: rows.schema[name] for name in frame.columns}))


def write(frames: Iterable[pl.DataFrame], path: Path) -> None:
    """Replaces the file in one step, row group by row group: whoever reads sees the old rows or the new ones, also
    after a crash. Raises OSError when the disk is full; the file is then as it was."""
    import polars as pl
    from pyarrow import parquet

    temporary = path.with_name(path.name + ".tmp")
    schema = to_frame([]).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    plain = [name for name, kind in _COLUMNS.items() if kind in _PLAIN]
    try:
        with temporary.open("wb") as file:
            with parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=plain) as writer:
                for frame in _grouped(frames):
                    writer.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)  # noqa: PTH105 - the step that tests interrupt
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


__all__ = ["batches", "complete", "from_frame", "read", "to_frame", "without", "write"]
