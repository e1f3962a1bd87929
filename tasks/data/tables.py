"""Tables of numbers with one real target: the paper's Gaussian teacher, diabetes, California housing, flights."""

from __future__ import annotations

import gzip
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dse.errors import UserError
from dse.tasks.data import locate
from dse.tasks.data.flights import flights
from dse.tasks.streams import generator, permutation

TABLES = ("gaussian", "diabetes", "california", "flights")


@dataclass(frozen=True)
class TabularData:
    """Inputs [N, F] and targets [N] float32, in units of the training rows' deviation about their mean."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def gaussian(rows: int, features: int, noise: float) -> TabularData:
    """x ~ N(0, 1), y = x w / √F + noise · N(0, 1), w ~ N(0, 1): the paper's teacher, in units of its deviation."""
    random = generator("gaussian teacher", rows, features)
    x = torch.randn(rows, features, generator=random)
    w = torch.randn(features, generator=random)
    y = (x @ w) / features**0.5 + noise * torch.randn(rows, generator=random)
    return _table("gaussian", x, y)


def load_table(source: str, data_dir: Path | None = None) -> TabularData:
    """The real table `source`: 'diabetes', 'california' or 'flights'."""
    if source == "flights":
        x, y = flights(data_dir)
        return _table(source, torch.from_numpy(x), torch.from_numpy(y))
    paths = locate.files(source, data_dir)
    x, y = _diabetes(paths[0], paths[1]) if source == "diabetes" else _california(paths[0])
    return _table(source, torch.from_numpy(x), torch.from_numpy(y))


def with_outliers(table: TabularData, count: int, scale: float) -> TabularData:
    """The same with the first `count` features `scale` times as large: channels that dwarf the rest of their block.

    As in the activations of language models (arXiv 2208.07339). Targets stay as they were.
    """
    factor = torch.ones(table.x.shape[1])
    factor[:count] = scale
    return replace(table, x=table.x * factor, test_x=table.test_x * factor)


def _diabetes(inputs: Path, target: Path) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(inputs, "rt", encoding="utf-8") as x, gzip.open(target, "rt", encoding="utf-8") as y:
        return np.loadtxt(x), np.loadtxt(y)


def _california(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Columns in the file: longitude, latitude, age, rooms, bedrooms, population, households, income, house value.

    As in scikit-learn: rooms, bedrooms and population become numbers per household.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            member = archive.extractfile("CaliforniaHousing/cal_housing.data")
            assert member is not None
            raw = np.loadtxt(member, delimiter=",")
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not the published archive ({error})") from None
    longitude, latitude, age, rooms, bedrooms, population, homes, income, value = raw.T
    x = np.stack([income, age, rooms / homes, bedrooms / homes, population, population / homes, latitude, longitude], 1)
    return x, value


def _table(source: str, x: Tensor, y: Tensor) -> TabularData:
    """80/20 by a fixed permutation, everything standardized by the training rows."""
    order = permutation(len(x), "split", source)
    x, y = x[order].double(), y[order].double()
    held = len(x) // 5
    x = (x - x[held:].mean(0)) / x[held:].std(0)
    y = (y - y[held:].mean()) / y[held:].std()
    x, y = x.float(), y.float()
    return TabularData(x[held:].clone(), y[held:].clone(), x[:held].clone(), y[:held].clone())
