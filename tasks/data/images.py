"""Small grey images with classes: scikit-learn's digits, which are always there, and Fashion-MNIST."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.data import idx, locate
from tasks.streams import permutation

IMAGES = ("digits", "fashion-mnist")


@dataclass(frozen=True)
class Images:
    """Pixels [N, S, S] uint8 and labels [N] int64; `mean` and `std` are those of the training pixels."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: float
    std: float
    classes: int = 10

    def standard(self, pixels: Tensor) -> Tensor:
        """Pixels as float32 of mean 0 and deviation 1 (over the training set)."""
        return (pixels.float() - self.mean) * (1 / self.std)  # CPU and GPU divide by a number differently


def load_images(source: str, data_dir: Path | None = None) -> Images:
    """The images of `source`, one of `IMAGES`, with a fixed split."""
    if source == "digits":
        return _digits(data_dir)
    x, y, test_x, test_y = (idx.read_idx(path) for path in locate.files(source, data_dir))
    return _images(x, y, test_x, test_y)


def _digits(data_dir: Path | None) -> Images:
    """1,437 training and 360 test images, 8×8, pixels 0 .. 16."""
    (path,) = locate.files("digits", data_dir)
    with gzip.open(path, "rt") as stream:
        table = torch.from_numpy(np.loadtxt(stream, delimiter=",", dtype=np.uint8))
    table = table[permutation(len(table), "split", "digits")]
    x, y = table[:, :64].reshape(-1, 8, 8), table[:, 64]
    held = len(table) // 5 + 1
    return _images(x[held:], y[held:], x[:held], y[:held])


def _images(x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> Images:
    pixels = x.double()
    return Images(
        x.contiguous(), y.long(), test_x.contiguous(), test_y.long(), pixels.mean().item(), pixels.std().item()
    )
