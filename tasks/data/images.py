"""Small images: scikit-learn's digits, which are always there, Fashion-MNIST, CIFAR-10, and any file of pictures."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dse.errors import UserError, nearest
from dse.tasks.data import cifar, idx, locate
from dse.tasks.streams import permutation

IMAGES = ("digits", "fashion-mnist", "cifar10")
"""With classes."""

PICTURES = (*IMAGES, "emoji32")
"""Also those without: an .npz file of pictures that the user has."""


@dataclass(frozen=True)
class Images:
    """Pixels [N, S, S], or [N, channels, S, S], uint8 and labels [N] int64; `mean` and `std` of the training pixels."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: float
    std: float
    classes: int = 10

    @property
    def channels(self) -> int:
        """1 for grey."""
        return 1 if self.x.dim() == 3 else self.x.shape[1]

    def standard(self, pixels: Tensor) -> Tensor:
        """Pixels as float32 of mean 0 and deviation 1 (over the training set)."""
        return (pixels.float() - self.mean) * (1 / self.std)  # CPU and GPU divide by a number differently


def load_images(source: str, data_dir: Path | None = None) -> Images:
    """The images of `source`, one of `PICTURES` or the path of an .npz file, with a fixed split."""
    if source == "digits":
        return _digits(data_dir)
    if source not in IMAGES:
        return _pictures(source, data_dir)
    if source == "cifar10":
        return _images(*cifar.read_cifar10(locate.files(source, data_dir)[0]))
    x, y, test_x, test_y = (idx.read_idx(path) for path in locate.files(source, data_dir))
    return _images(x, y, test_x, test_y)


def _digits(data_dir: Path | None) -> Images:
    """1,437 training and 360 test images, 8×8, pixels 0 .. 16."""
    (path,) = locate.files("digits", data_dir)
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        table = torch.from_numpy(np.loadtxt(stream, delimiter=",", dtype=np.uint8))
    table = table[permutation(len(table), "split", "digits")]
    x, y = table[:, :64].reshape(-1, 8, 8), table[:, 64]
    held = len(table) // 5 + 1
    return _images(x[held:], y[held:], x[:held], y[:held])


def _pictures(source: str, data_dir: Path | None) -> Images:
    """The array `images` [N, S, S] or [N, S, S, 3] uint8 of an .npz file; all labels are 0.

    Every tenth run of 32 pictures is held out: neighbors in such a file are often variants of one picture.
    """
    name = source if source.endswith(".npz") else f"{source}.npz"
    places = [Path(name).expanduser()]
    places += [] if data_dir is None else [data_dir / name]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        looked = ", ".join(map(str, places))
        raise UserError(f"images: no file {name!r} (looked for {looked}){nearest(source, PICTURES)}")
    try:
        with np.load(path) as archive:
            pixels = torch.from_numpy(archive["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not an .npz file with an array 'images' ({error})") from None
    if pixels.dtype != torch.uint8 or pixels.dim() not in (3, 4) or pixels.shape[1] != pixels.shape[2]:
        raise UserError(f"{path}: images must be uint8 [N, S, S] or [N, S, S, channels], not {tuple(pixels.shape)}")
    if pixels.dim() == 4:
        pixels = pixels.permute(0, 3, 1, 2)
    held = torch.arange(len(pixels)) // 32 % 10 == 9
    if not held.any():
        raise UserError(f"{path}: {len(pixels)} images are too few to hold some out; at least 320 are needed")
    x, test_x = pixels[~held], pixels[held]
    return _images(x, torch.zeros(len(x)), test_x, torch.zeros(len(test_x)))


def _images(x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> Images:
    pixels = x.double()
    return Images(
        x.contiguous(), y.long(), test_x.contiguous(), test_y.long(), pixels.mean().item(), pixels.std().item()
    )
