"""Fixtures of the zoo: every net and source at its CI-small size, with data made on the spot."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.tasks import TASKS, Task
from dse.tasks.data.cifar import FOLDER, TEST, TRAIN
from dse.tasks.data.sources import SOURCES, DataFile, DataSource

NETS: dict[str, Task[Any]] = {
    "cnn": TASKS["image"](net="cnn"),
    "cnn-paper-mnist": TASKS["image"](net="cnn", size="small"),
    "cnn-paper-cifar": TASKS["image"](net="cnn", size="base"),
    "resnet": TASKS["image"](net="resnet"),
    "unet": TASKS["diffusion"](net="unet"),
    "unet-edm": TASKS["diffusion"](net="unet", process="edm"),
    "qk-norm": TASKS["lm"](qk_norm=True),
    "bytes": TASKS["lm"](tokens="bytes"),
    "0.5M": TASKS["lm"](size="0.5M"),
    "nanogpt-cpu": TASKS["lm"](size="nanogpt-cpu"),
    "outliers": TASKS["regression"](outliers=4),
}
"""On data that is always there."""

COLOR: dict[str, Task[Any]] = {
    "cifar-mlp": TASKS["image"](source="cifar10"),
    "cifar-vit": TASKS["image"](source="cifar10", net="vit"),
    "cifar-cnn": TASKS["image"](source="cifar10", net="cnn"),
    "cifar-resnet": TASKS["image"](source="cifar10", net="resnet"),
    "cifar-dit": TASKS["diffusion"](source="cifar10"),
    "emoji-unet": TASKS["diffusion"](source="emoji32", net="unet"),
    "emoji-dit-edm": TASKS["diffusion"](source="emoji32", process="edm"),
}
"""On the files that `cifar10` and `emoji32` write."""


def cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: int = 0) -> Path:
    """A small archive in CIFAR-10's format, 8 images a file; `spoil` bytes are missing at the end of each."""
    random = np.random.default_rng(0)
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for number, name in enumerate((*TRAIN, *TEST)):
            records = random.integers(0, 256, (8, 3073), dtype=np.uint8)
            records[:, 0] = (np.arange(8) + number) % 10
            content = records.tobytes()[: records.size - spoil]
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    file = DataFile(path.name, "http://example.invalid", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(SOURCES, "cifar10", DataSource("cifar10", "image", "x", "y", (file,)))
    return path


def emoji32(folder: Path) -> Path:
    """352 small color pictures, the last 32 held out."""
    random = np.random.default_rng(1)
    path = folder / "emoji32.npz"
    np.savez(path, images=random.integers(0, 256, (352, 32, 32, 3), dtype=np.uint8))
    return path


FLIGHTS = """year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,\
origin,dest,air_time,distance,hour,minute,time_hour
"""


def flights(count: int) -> str:
    """The text of a flights.csv in which the delay on arrival is that of departure minus 5; every ninth is missing."""
    lines = [
        f"2013,{1 + i % 12},{1 + i % 28},517,{500 + i % 50},{i % 7 - 2},830,{800 + i % 40},"
        f"{'NA' if i % 9 == 0 else i % 7 - 7},{('UA', 'AA', 'B6')[i % 3]},{i},N{i},{('JFK', 'EWR')[i % 2]},"
        f"{('MIA', 'IAH', 'BOS')[i * i % 3]},200,{1000 + i % 300},5,17,2013-01-01T05:00:00Z\n"
        for i in range(count)
    ]
    return FLIGHTS + "".join(lines)
