"""Hardware profiles: peak dense rates, each with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """Peak rates of one accelerator package, dense (no structured sparsity).

    - ``fp4``, ``fp8``, ``bf16``, ``tf32``: the matrix unit by operand width, FLOP/s (a multiply-add is two);
    - ``vector``: FP32 outside the matrix unit, FLOP/s. It counts a multiply-add as two, so a kernel of single
      operations (abs, max, convert) reaches half of it at best: real overheads are larger, by one factor for all;
    - ``bandwidth``: main memory, bytes/s;
    - ``dense_transforms``: whether a rotation may run as a dense product on the matrix unit (at the BF16 rate) where
      that is faster than the fast transform on the vector units, as TransformerEngine's Hadamard kernels do.
    """

    name: str
    fp4: float
    fp8: float
    bf16: float
    tf32: float
    vector: float
    bandwidth: float
    dense_transforms: bool = True
    source: str = ""

    def rate(self, bits: int) -> float:
        """Matrix-unit rate for operands of up to 4, 8, 16 or 32 bits (FP6 runs at the FP8 rate, FP32 as TF32)."""
        return self.fp4 if bits <= 4 else self.fp8 if bits <= 8 else self.bf16 if bits <= 16 else self.tf32


_PF, _TF, _TB = 1e15, 1e12, 1e12

# Per GPU of the superchips (HGX boards reach 0.9 of it), half of the advertised rates with structured sparsity.
B200 = Hardware(
    "B200",
    fp4=10 * _PF,
    fp8=5 * _PF,
    bf16=2.5 * _PF,
    tf32=1.25 * _PF,
    vector=80 * _TF,
    bandwidth=8 * _TB,
    source="NVIDIA GB200 NVL72 data sheet, per GPU",
)
GB300 = Hardware(
    "GB300",
    fp4=15 * _PF,
    fp8=5 * _PF,
    bf16=2.5 * _PF,
    tf32=1.25 * _PF,
    vector=80 * _TF,
    bandwidth=8 * _TB,
    source="NVIDIA GB300 NVL72 data sheet, per GPU",
)

HARDWARE: dict[str, Hardware] = {"b200": B200, "gb300": GB300}
