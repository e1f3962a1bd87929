"""A block quantizer that techniques call by themselves in packs on a GPU: kernels compute it for all members."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dse import fused
from dse.fused import Table, Use
from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe


@dataclass(frozen=True)
class FusedQuantizer(BlockQuantizer):
    """Quantizes stacked operands [E, R, K] with a ``Key`` by kernels, where these cover it; else as its base does."""

    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        differentiated = x.requires_grad and torch.is_grad_enabled()
        if key is not None and x.dim() == 3 and not differentiated and (table := _table(self, len(x), str(x.device))):
            return fused.quantize(x, table, key, torch.float32)
        return super().__call__(x, key)


def by_kernels(quantizer: Quantizer) -> Quantizer:
    """The same quantizer, computed by kernels where it is one of blocks."""
    return FusedQuantizer(**_options(quantizer)) if type(quantizer) is BlockQuantizer else quantizer


def decomposition_by_kernels(recipe: Recipe) -> Recipe:
    """The recipe with its decomposition's own quantizers computed by kernels."""
    own = recipe.decomposition
    return recipe if own is None else replace(recipe, decomposition=own.computed_by(by_kernels))


def _options(quantizer: BlockQuantizer) -> dict[str, Any]:
    return {f.name: getattr(quantizer, f.name) for f in fields(BlockQuantizer)}


@lru_cache(256)
def _table(quantizer: FusedQuantizer, members: int, device: str) -> Table | None:
    """The table of members that are quantized alike; None where kernels do not cover it."""
    use = Use(BlockQuantizer(**_options(quantizer)), None)
    return None if fused.uncovered(use) else fused.table([use] * members, device)
