"""Bytes of a quantized operand as hardware stores it."""

from __future__ import annotations

from dse.numerics.block import BlockQuantizer


def code_bytes(quantizer: BlockQuantizer, elements: float, blocks: float) -> float:
    """Packed codes of ``elements`` and the scales of ``blocks``, each scale in whole bytes (UE4M3's 7 bits take 8)."""
    return quantizer.element.bits * elements / 8 + -(-quantizer.scale.bits // 8) * blocks


__all__ = ["code_bytes"]
