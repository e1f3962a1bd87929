"""Reader of CIFAR-10's binary version: records of one label byte and 3 × 32 × 32 pixels, planes red, green, blue."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dse.errors import UserError

FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = ("test_batch.bin",)
_RECORD = 1 + 3 * 32 * 32


def read_cifar10(path: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images [N, 3, 32, 32] uint8 and labels [N], then those of the test, from the published archive.

    `UserError` for another archive, or a file that is cut short.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            parts = [_join(archive, names) for names in (TRAIN, TEST)]
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise UserError(f"{path}: not the binary version of CIFAR-10 ({error})") from None
    (x, y), (test_x, test_y) = (_images(path, part) for part in parts)
    return x, y, test_x, test_y


def _join(archive: tarfile.TarFile, names: tuple[str, ...]) -> bytes:
    members = [archive.extractfile(f"{FOLDER}/{name}") for name in names]
    return b"".join(member.read() for member in members if member is not None)


def _images(path: Path, content: bytes) -> tuple[Tensor, Tensor]:
    if not content or len(content) % _RECORD:
        raise UserError(f"{path}: {len(content)} bytes are no whole number of CIFAR-10's records of {_RECORD}")
    records = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, _RECORD).copy())
    if records[:, 0].max() > 9:
        raise UserError(f"{path}: a label is {int(records[:, 0].max())}; CIFAR-10 has classes 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32).contiguous(), records[:, 0].long()
