"""Records as one Parquet file: the compacted form of finished shards.

Plain fields of a record are typed columns, nested ones are JSON text, so reading gives back equal records. polars is
imported by the functions that need it: a machine with only torch can write shards, which are compacted elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.run.record import Record
from dse.run.shards import sync_folder

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = {f.name: str(f.type).removesuffix(" | None") for f in fields(Record)}
"""Field -> its type's name; whatever is not a plain type is stored as JSON text."""
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
    except ImportError:
        raise UserError(f"{path} can only be read with polars; install it: pip install polars") from None
    try:
        if columns:  # a file from before a field was added lacks its column
            known = pl.read_parquet_schema(path)
            columns = [name for name in columns if name in known]
        frame = pl.read_parquet(path, columns=list(columns) if columns else None, memory_map=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    return frame if uids is None else frame.filter(pl.col("uid").is_in(list(uids)))


def write(records: Iterable[Record], path: Path) -> None:
    """Replaces the file in one step: whoever reads sees the old rows or the new ones, also after a crash."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        to_frame(records).write_parquet(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)  # noqa: PTH105 - the step that tests interrupt
    sync_folder(path.parent)


def _cell(value: Any, kind: str) -> Any:
    return value if kind in _PLAIN else json.dumps(value, separators=(",", ":"))


__all__ = ["from_frame", "read", "to_frame", "write"]
