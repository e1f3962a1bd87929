"""Storage of a quantized operand: bits of elements and of what blocks keep beside them."""

from __future__ import annotations

from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import BFloat16, Quantizer
from dse.numerics.techniques.outliers import Asymmetric

_FP32 = 32


def stored_bits(quantizer: Quantizer, rows: int, columns: int) -> float:
    """Bits per element of an operand [R, K] as a quantizer leaves it: elements, block scales, tensor scale.

    Block scales take whole bytes; micro-exponents add a bit for each of their parts, scales by sign a second scale, a
    tensor scale 32 bits per operand. A BF16 operand has 16 bits, an unquantized one 32.
    """
    if not isinstance(quantizer, BlockQuantizer):
        return 16.0 if isinstance(quantizer, BFloat16) else float(_FP32)
    tile, block = quantizer.block_shape(rows, columns)
    scales = -(-rows // tile) * -(-columns // block) * (1 + isinstance(quantizer.outliers, Asymmetric))
    bits = rows * columns * quantizer.element.bits + scales * 8 * -(-quantizer.scale.bits // 8)
    bits += sum(-(-rows // tile) * -(-columns // size) for size in quantizer.micro_exponents)
    bits += _FP32 * (quantizer.tensor_scale is not None)
    return bits / (rows * columns)


__all__ = ["stored_bits"]
