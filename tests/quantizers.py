"""Block quantizers that several tests use, and a seeded operand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E8M0, FP32, UE4M3, UE5M3
from dse.numerics.techniques.rounding import AwayFromZero, TowardZero
from dse.numerics.techniques.tensor_scales import Current

MXFP4 = BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=TowardZero())
MXFP8 = BlockQuantizer(E4M3, E8M0, 32, scale_rounding=AwayFromZero())
NVFP4 = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
ONE_LEVEL = BlockQuantizer(E2M1, UE4M3, 16)
UE5M3_ONE = BlockQuantizer(E2M1, UE5M3, 16)
EXACT = BlockQuantizer(E2M1, FP32, 16)
KINDS = {"mxfp4": MXFP4, "mxfp8": MXFP8, "nvfp4": NVFP4, "ue4m3": ONE_LEVEL, "ue5m3": UE5M3_ONE, "fp32": EXACT}
every = pytest.mark.parametrize("q", KINDS.values(), ids=KINDS.keys())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
