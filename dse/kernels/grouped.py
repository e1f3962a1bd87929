"""a b^T with products added in groups: in FP64, rounded once to FP32, and the groups' sums in FP32 in their order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dse.kernels.availability import interpreted
from dse.kernels.epilogue import Epilogue

_TILE = 64
_MOST = (1 << 16) - 1
"""Programs on the second axis of a grid."""


class Grouping(NamedTuple):
    """``size`` products to a group; running sums rounded ``toward_zero`` or to nearest even; ``lattice`` n: the result

    is rounded to multiples of 1/n, 0: it is not.
    """

    size: int
    toward_zero: bool
    lattice: int = 0


def grouped(
    x: Tensor,
    y: Tensor,
    how: Grouping,
    scales: tuple[Tensor | None, Tensor | None] = (None, None),
    bias: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """x [E, M, K], y [E, N, K], both BF16 or both FP32, any strides -> x y^T [E, M, N], times scales, plus bias.

    Within a group products are added one by one in FP64, each of which is exact there. ``scales``, ``bias`` and
    ``dtype`` are those of ``dse.kernels.contract``.
    """
    from dse.kernels.device.grouped import grouped_kernel

    (members, rows, depth), columns = x.shape, y.shape[1]
    out = torch.empty(members, rows, columns, dtype=dtype, device=x.device)
    epilogue, tiles = Epilogue.of(*scales, bias, out), -(-rows // _TILE) * -(-columns // _TILE)
    groups = -(-depth // how.size)
    for start in range(0, members if tiles else 0, _MOST):
        some = slice(start, start + _MOST)
        part = epilogue.of_members(some)
        grouped_kernel[(tiles, len(x[some]))](
            x[some], *x.stride(), y[some], *y.stride(), out[some], *part[:4], rows, columns, depth, float(how.lattice),
            groups, GROUPS=groups if interpreted() else 0, SIZE=how.size, BM=_TILE, BN=_TILE,
            TOWARD_ZERO=how.toward_zero, LATTICE=how.lattice > 0, SCALES=part.scales, BIAS=part.biased,
            INTERPRET=interpreted(), num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return out
