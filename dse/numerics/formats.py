"""Number formats as data: one declaration each, everything else derived.

Exponent and mantissa bits do not identify a format (E2M1 reaches 6 in OCP MX and 3 with an IEEE-style reserved
exponent; UE5M3 has three published codebooks), so the bias, the largest value and the signedness are explicit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Format:
    """A binary number format, ``(-1)^sign * 1.mantissa * 2^(exponent - bias)`` with gradual underflow.

    - ``exp``, ``man``: exponent and mantissa bits. ``exp = 0`` is an integer grid (every code is subnormal).
    - ``bias``: exponent bias; the smallest normal exponent is ``1 - bias``.
    - ``max``: largest finite value. Casts saturate at it.
    - ``signed``: whether a sign bit exists. Unsigned formats hold scales.
    - ``subnormals``: without them (E8M0) code 0 stands for ``2^-bias`` and zero does not exist.
    - ``nan``: whether the format has a NaN code. Casts let NaN through either way (the emulation carries FP32),
      so a diverged value stays visible.
    - ``source``: where the codebook is published.
    """

    name: str
    exp: int
    man: int
    bias: int
    max: float
    signed: bool = True
    subnormals: bool = True
    nan: bool = False
    source: str = ""

    @property
    def bits(self) -> int:
        """Storage bits of one value."""
        return int(self.signed) + self.exp + self.man

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal value (of the smallest value when there are no subnormals)."""
        return 1 - self.bias if self.subnormals else -self.bias

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value: ``floor(log2 max)``, exact."""
        return int(torch.frexp(torch.tensor(self.max, dtype=torch.float64)).exponent) - 1

    @property
    def smallest(self) -> float:
        """Smallest positive value."""
        return 2.0 ** (self.emin - self.man) if self.subnormals else 2.0**self.emin

    @cached_property
    def grid(self) -> Tensor:
        """Every non-negative value in increasing order, float64. Raises ValueError above 16 bits."""
        if self.exp + self.man > 15:
            raise ValueError(f"{self.name} has too many codes to enumerate")
        steps = torch.arange(2**self.man, dtype=torch.float64)
        low = steps * 2.0 ** (self.emin - self.man) if self.subnormals else torch.empty(0, dtype=torch.float64)
        normal = [2.0**e * (1 + steps / 2**self.man) for e in range(self.emin, self.emax + 1)]
        values = torch.cat([low, *normal])
        return values[values <= self.max]


_MX = "OCP Microscaling Formats (MX) v1.0"
_UE5M3 = "arXiv 2609.02846, eq. 3 (top exponent reserved)"

ELEMENTS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("e2m1", 2, 1, 1, 6.0, source=_MX),
        Format("e4m3", 4, 3, 7, 448.0, nan=True, source=_MX),
        Format("e5m2", 5, 2, 15, 57344.0, nan=True, source=_MX),
        Format("e2m3", 2, 3, 1, 7.5, source=_MX),
        Format("e3m2", 3, 2, 3, 28.0, source=_MX),
        Format("e1m2", 1, 2, 0, 3.5, source="arXiv 2606.20381 (UFP4)"),
        Format("e3m0", 3, 0, 3, 16.0, source="arXiv 2505.19115, format sweep (no code reserved)"),
        Format("int4", 0, 3, -2, 7.0, source="symmetric two's complement, -8 unused; arXiv 2603.28765"),
        Format("s1p2", 0, 3, 0, 1.75, source="arXiv 2602.11287 (HiFloat4): sign, one integer bit, two fraction bits"),
        Format("int8", 0, 7, -6, 127.0, source="symmetric; OCP MX INT8 is this grid times 2^-6"),
    )
}

SCALES: dict[str, Format] = {
    f.name: f
    for f in (
        Format("e8m0", 8, 0, 127, 2.0**127, signed=False, subnormals=False, nan=True, source=_MX),
        Format("ue4m3", 4, 3, 7, 448.0, signed=False, nan=True, source="NVIDIA NVFP4, arXiv 2509.25149"),
        Format("ue5m3", 5, 3, 15, 61440.0, signed=False, nan=True, source=_UE5M3),
        Format("ue5m3_114688", 5, 3, 15, 114688.0, signed=False, nan=True, source="PTX ISA 9.4: only 0xFF is NaN"),
        Format("ue5m3_122880", 5, 3, 15, 122880.0, signed=False, source="simulator of arXiv 2509.17791: all finite"),
        Format("ue5m2", 5, 2, 15, 57344.0, signed=False, nan=True, source="arXiv 2509.17791, simulator (E5M2 scale)"),
        Format(
            "ue8m3", 8, 3, 127, 2.0**127 * 1.875, signed=False, source="arXiv 2509.17791, simulator (E8M3, 12 bits)"
        ),
        Format(
            "ue6m2", 6, 2, 48, 49152.0, signed=False, subnormals=False, nan=True, source="arXiv 2602.11287 (HiFloat4)"
        ),
        Format("bf16", 8, 7, 127, 3.3895313892515355e38, signed=False, nan=True, source="bfloat16 (E8M7)"),
        Format("fp32", 8, 23, 127, 3.4028234663852886e38, signed=False, nan=True, source="IEEE 754 binary32"),
    )
}

BF16 = Format("bf16", 8, 7, 127, 3.3895313892515355e38, nan=True, source="bfloat16")

E2M1, E4M3, E5M2 = ELEMENTS["e2m1"], ELEMENTS["e4m3"], ELEMENTS["e5m2"]
E8M0, UE4M3, UE5M3, FP32 = SCALES["e8m0"], SCALES["ue4m3"], SCALES["ue5m3"], SCALES["fp32"]
