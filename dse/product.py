"""a b^T with FP32 accumulation, so that a member of a pack gets the bits it would get alone."""

from __future__ import annotations

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [..., M, K], b [..., N, K] -> [..., M, N] in FP32 (FP64 for double operands).

    On the CPU each member is multiplied by itself, as a plain linear would be: a batched product of matrices with one
    row or column takes another route when the batch has one member. BF16 operands (exact ones: see ``dse.kernels``) are
    multiplied as such on a GPU, into an FP32 result; without one they are widened first.
    """
    if a.dtype == torch.bfloat16:
        if a.is_cuda and a.dim() == 3:
            return torch.bmm(a, b.mT, out_dtype=torch.float32)
        a, b = a.float(), b.float()
    if a.is_cuda and a.dim() == b.dim() == 3 and a.dtype == torch.float32 and len(a) == len(b):
        from dse import kernels
        from dse.quantizer import Quantized

        if kernels.available():  # a library chooses its algorithm, and with it the bits, by the number of members
            return kernels.contract(Quantized(a), Quantized(b))
    if a.device.type != "cpu" or a.dim() == 2:
        y: Tensor = a @ b.mT
        return y
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    pairs = zip(
        a.expand(*lead, *a.shape[-2:]).flatten(0, -3), b.expand(*lead, *b.shape[-2:]).flatten(0, -3), strict=True
    )
    rows: Tensor = torch.stack([torch.mm(x, y.mT) for x, y in pairs]).unflatten(0, lead)
    return rows
