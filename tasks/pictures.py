"""Encoding of small sample images: as compressed bytes in a trial's record, and as PNG.

Pixels are kept as 8 bits and compressed: 8 samples are .75 kB of a record for digits, 8 kB for Fashion-MNIST, at most
33 kB for 32×32 in color. They are part of the one line that
a trial writes, which is written whole or not at all, so no second file can be lost or left behind by a crash.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST = 8
LIMIT = 24 * 1024
"""Bytes of pixels: 8 pictures of 32×32 in color."""
_PAPER = 255


def count(pixels: int) -> int:
    """How many pictures of so many bytes are kept: 1 to MOST."""
    return max(1, min(MOST, LIMIT // pixels))


@dataclass(frozen=True)
class Pictures:
    """``pixels`` uint8 [n, (C,) S, S]; ``unit``: what a step of a pixel is, in deviations of the data's pixels."""

    pixels: NDArray[np.uint8]
    unit: float

    @classmethod
    def of(cls, images: Tensor, low: Tensor, high: Tensor) -> Pictures | None:
        """The first of standardized ``images`` [n, (C,) S, S], whose range ``low`` .. ``high`` [] becomes 0 .. 255.

        None where one is not finite.
        """
        images = images[: count(images[0].numel())].detach().float().cpu()
        if not images.isfinite().all():
            return None
        bottom, span = float(low), float(high) - float(low)
        pixels = ((images - bottom) * (255 / span)).round().clamp(0, 255).to(torch.uint8)
        return cls(pixels.numpy(), span / 255)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        data = base64.b64encode(zlib.compress(self.pixels.tobytes(), 9)).decode()
        return {"shape": list(self.pixels.shape), "unit": float(f"{self.unit:.6g}"), "pixels": data}

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Pictures:
        """The inverse of ``plain``. Raises ValueError, KeyError or TypeError for what is none."""
        try:
            data = zlib.decompress(base64.b64decode(plain["pixels"]))
        except zlib.error as error:
            raise ValueError(str(error)) from None
        return cls(np.frombuffer(data, np.uint8).reshape(plain["shape"]), float(plain["unit"]))

    def values(self) -> Tensor:
        """The pixels in deviations, but for a constant: [n, (C,) S, S]."""
        return torch.from_numpy(self.pixels.astype(np.float64) * self.unit)

    def strip(self, scale: int = 1) -> bytes:
        """A PNG of them side by side, each pixel ``scale`` wide, an eighth of a picture apart."""
        gap = max(1, self.pixels.shape[-1] // 8) * scale
        images = self.pixels[:, None] if self.pixels.ndim == 3 else self.pixels  # [n, C, S, S]
        images = images[:, :1] if images.shape[1] not in (1, 3) else images
        images = np.repeat(np.repeat(images, scale, -2), scale, -1)
        paper = np.full((*images.shape[1:3], gap), _PAPER, np.uint8)
        parts = [part for one in images for part in (paper, one)][1:]
        return png(np.concatenate(parts, -1).transpose(1, 2, 0))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels [height, width, 1 or 3]."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


__all__ = ["LIMIT", "MOST", "Pictures", "count", "png"]
