"""The same bits for a member alone and in packs: means over a batch, and rotary positions before a core of a recipe.

Run as a script under TRITON_INTERPRET=1 (test_means.py does), which has to be set before triton is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from dse.tasks.means import _Mean
from dse.tasks.nets.fused.turn import turn
from dse.tasks.nets.heads import _Turned
from dse.tasks.nets.rotary import rotary_table


def check_means(device: str) -> float:
    """Of all elements and of the last axis: bits of a stack's members, values and gradients against float64."""
    worst = 0.0
    for e, b, n in ((3, 4, 1000), (2, 1, 1), (5, 3, 1025)):
        x = torch.rand(e, b, n, generator=torch.Generator().manual_seed(n)).to(device)
        for keep, dims in ((0, (1, 2)), (1, (2,))):
            leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()

            def mine(x: Tensor, keep: int = keep) -> Tensor:
                y: Tensor = _Mean.apply(x, keep)  # type: ignore[no-untyped-call]
                return y

            y, z = torch.vmap(mine)(leaf), exact.mean(dims)
            slope = torch.linspace(-1, 3, y.numel(), device=device).view_as(y)
            (dy,), (dz,) = torch.autograd.grad(y, leaf, slope), torch.autograd.grad(z, exact, slope.double())
            for found, right in ((y, z), (dy, dz)):
                worst = max(worst, float((found.double() - right).abs().max() / right.abs().max()))
            for i in range(e):
                one = x[i].clone().requires_grad_()
                alone = mine(one)
                assert torch.equal(alone, y[i])
                assert torch.equal(torch.autograd.grad(alone, one, slope[i])[0], dy[i])
    assert worst < 2e-7, worst
    return worst


def check_rotary(device: str) -> str:
    """What a core sees that is not fused: the bits, and the gradients, of the fused kernel, in a pack and alone."""
    e, b, t, heads, size = 3, 2, 5, 3, 8
    g = torch.Generator().manual_seed(1)
    table = rotary_table(t, size).to(device)
    for dtype in (torch.float32, torch.bfloat16):
        q, k, p, r = (torch.randn(e, b, t, heads * size, generator=g).to(device, dtype) for _ in range(4))
        leaves, same = ([x.clone().requires_grad_() for x in (q, k)] for _ in range(2))
        found = torch.vmap(_Turned.apply, in_dims=(0, 0, None))(*leaves, table)
        right = turn(*same, table.expand(e, *table.shape), dtype)
        mine, theirs = torch.autograd.grad(found, leaves, (p, r)), torch.autograd.grad(right, same, (p, r))
        alone = [x[1].clone().requires_grad_() for x in (q, k)]
        sole = _Turned.apply(*alone, table)  # type: ignore[no-untyped-call]
        own = torch.autograd.grad(sole, alone, (p[1], r[1]))
        for stack, kernel, one in zip((*found, *mine), (*right, *theirs), (*sole, *own), strict=True):
            assert torch.equal(stack, kernel)
            assert torch.equal(stack[1], one)
    return "as the kernel"


CHECKS: dict[str, Callable[[str], object]] = {"means": check_means, "rotary before a core": check_rotary}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for title, check in CHECKS.items():
        print(title, check(sys.argv[1] if len(sys.argv) > 1 else "cpu"), flush=True)
