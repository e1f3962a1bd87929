"""FP32 operands for tensor cores: each number is the sum of three BF16 numbers, exactly from 2^-110 on.

A product of two such numbers is the sum of nine products; the three smallest, together below 2^-24 of it, are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dse.kernels.availability import interpreted

_ROWS, _COLUMNS = 8, 256


def split(x: Tensor, alpha: Tensor | None = None) -> Tensor:
    """float32 x [E, R, K] -> bfloat16 [3 * E, R, K], the large parts of all members first, in x's layout.

    With ``alpha``, float32 of E elements, x may be bfloat16, and the parts are those of x times its member's alpha.

    Its rows, or its columns where x is a transposed view, begin at multiples of 32 bytes.
    """
    from dse.kernels.device.split import split_kernel

    if x.stride(-1) != 1 and x.stride(-2) == 1:
        return split(x.mT, alpha).mT
    members, rows, columns = x.shape
    out = torch.empty(3, members, rows, -(-columns // 16) * 16, dtype=torch.bfloat16, device=x.device)
    tiles = -(-rows // _ROWS) * -(-columns // _COLUMNS)
    split_kernel[(tiles, members)](
        x, *x.stride(), out if alpha is None else alpha.reshape(-1), out, *out.stride()[:3], rows, columns,
        SCALED=alpha is not None, BR=_ROWS, BC=_COLUMNS, INTERPRET=interpreted(), num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return out.flatten(0, 1)[..., :columns]
