"""Reader of IDX files, the format of MNIST and its relatives.

Two zero bytes, the element type (8: unsigned byte), the number of dimensions n, n big-endian 32-bit sizes, then the
elements.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dse.errors import UserError


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in `path`, gzipped or not. `UserError` for a file that is not IDX, or is cut short."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise UserError(f"{path}: not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise UserError(f"{path}: cut short in its header")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UserError(f"{path}: {len(content) - start} elements, its header says {math.prod(shape)}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())
