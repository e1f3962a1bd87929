"""The nets' fused kernels against torch's composed forms in float64, as plain functions for a CPU and a GPU.

Run as a script under TRITON_INTERPRET=1 (test_fused.py does), which has to be set before triton is imported.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dse.tasks.nets.attention import attention
from dse.tasks.nets.fused.embed import embed
from dse.tasks.nets.fused.gate import gate
from dse.tasks.nets.fused.norm import Norming, add_norm, add_norms, norms, rms_norm
from dse.tasks.nets.fused.turn import turn
from dse.tasks.nets.heads import _Heads
from dse.tasks.nets.rotary import rotary_table, rotate

EPS = 1e-6
SHAPES = ((3, 2, 5, 48), (2, 2, 9, 257), (1, 1, 1, 2))
"""Members, batch, tokens, columns."""


class Case(NamedTuple):
    """``ours`` and ``theirs`` take one member's operands; ``shapes`` of all members', [E, ...]."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    operands: tuple[Tensor, ...]
    dims: tuple[int | None, ...]


def tensors(g: torch.Generator, device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(s, generator=g).to(device) for s in shapes]


def plain_norm(x: Tensor, weight: Tensor | None) -> Tensor:
    y = x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt()
    return y if weight is None else y * weight


def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, None, EPS)


def cases(shape: tuple[int, int, int, int], device: str) -> dict[str, Case]:
    """Operands of every stride that the nets make: contiguous, members elsewhere, shared between members."""
    e, b, t, c = shape
    g = torch.Generator().manual_seed(sum(shape))
    x, y, w, one = tensors(g, device, (e, b, t, c), (e, b, t, c), (e, c), (b, t, c))
    inner = torch.randn(b, t, c, e, generator=g).to(device)
    slices = torch.randn(e, b, t, 3 * c, generator=g).to(device)[..., c : 2 * c]

    def added(x: Tensor, y: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        return x + y, plain_norm(x + y, w)

    def norm(x: Tensor, w: Tensor | None) -> Tensor:
        return rms_norm(x, w, EPS)

    def add(x: Tensor, y: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
        return add_norm(x, y, w, EPS)

    def silu(x: Tensor, y: Tensor) -> Tensor:
        return F.silu(x) * y

    layer = {
        "layer norm": Case(lambda x, w: rms_norm(x, w, EPS, True), layer_norm, (1 + x, w), (0, 0)),
        "sum and layer norm": Case(
            lambda x, y, w: add_norm(x, y, w, EPS, True),
            lambda x, y, w: (x + y, layer_norm(x + y, w)),
            (x, slices, w),
            (0, 0, 0),
        ),
    }
    return {
        **(layer if c > 2 else {}),  # of two numbers the gradient is all cancellation
        "norm": Case(norm, plain_norm, (x, w), (0, 0)),
        "norm, members last": Case(norm, plain_norm, (inner, w), (3, 0)),
        "norm of slices, one weight": Case(norm, plain_norm, (slices, w[0].clone()), (0, None)),
        "norm without weight": Case(lambda x: norm(x, None), lambda x: plain_norm(x, None), (x,), (0,)),
        "norm of what members share": Case(norm, plain_norm, (one, w), (None, 0)),
        "sum and norm": Case(add, added, (x, slices, w), (0, 0, 0)),
        "sum and norm without weight": Case(
            lambda x, y: add(x, y, None), lambda x, y: added(x, y, None), (one, y), (None, 0)
        ),
        "gate": Case(gate, silu, (4 * x, y), (0, 0)),
        "gate, strided": Case(gate, silu, (slices, inner), (0, 3)),
        "gate, shared": Case(gate, silu, (x, one), (0, None)),
    }


def gradients(y: Any, operands: Sequence[Tensor]) -> list[Tensor]:
    """Outputs and gradients of a fixed function of them."""
    outputs = [y] if isinstance(y, Tensor) else list(y)
    total = sum(
        (o * torch.linspace(-1, 2, o.numel(), dtype=o.dtype, device=o.device).view_as(o)).sum() for o in outputs
    )
    assert isinstance(total, Tensor)
    return [*(o.detach() for o in outputs), *torch.autograd.grad(total, operands)]


def error(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    assert a.shape == b.shape
    return float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-30))


def run(function: Callable[..., Any], case: Case, dtype: torch.dtype) -> list[Tensor]:
    leaves = [x.detach().to(dtype).requires_grad_() for x in case.operands]
    return gradients(torch.vmap(function, in_dims=case.dims)(*leaves), leaves)


def check_pointwise(device: str) -> float:
    """Norms and gates, packed and alone; the same bits alone, in a pack, and again. The worst relative error."""
    worst = 0.0
    for shape in SHAPES:
        for name, case in cases(shape, device).items():
            found = run(case.ours, case, torch.float32)
            for a, b in zip(found, run(case.theirs, case, torch.float64), strict=True):
                worst = max(worst, error(a, b))
                assert error(a, b) < 2e-6, (shape, name, error(a, b))
            assert all(torch.equal(a, b) for a, b in zip(found, run(case.ours, case, torch.float32), strict=True))
            alone = [x if d is None else x.movedim(d, 0)[0] for x, d in zip(case.operands, case.dims, strict=True)]
            with torch.no_grad():
                y, solo = torch.vmap(case.ours, in_dims=case.dims)(*case.operands), case.ours(*alone)
            for p, s in zip(*([v] if isinstance(v, Tensor) else v for v in (y, solo)), strict=True):
                assert torch.equal(p[0], s), (shape, name, "a member's bits")
    return worst


def check_solo_gradients(device: str) -> float:
    """Without vmap, as a plain model trains."""
    x, y, w = tensors(torch.Generator().manual_seed(1), device, (2, 7, 40), (2, 7, 40), (40,))
    worst = 0.0
    for ours, theirs in (
        (lambda x, y, w: rms_norm(x, w, EPS) + gate(x, y), lambda x, y, w: plain_norm(x, w) + F.silu(x) * y),
        (lambda x, y, w: add_norm(x, y, w, EPS), lambda x, y, w: (x + y, plain_norm(x + y, w))),
    ):
        a, b = ([v.to(d).requires_grad_() for v in (x, y, w)] for d in (torch.float32, torch.float64))
        for p, q in zip(gradients(ours(*a), a), gradients(theirs(*b), b), strict=True):
            worst = max(worst, error(p, q))
    assert worst < 2e-6, worst
    return worst


def check_bf16(device: str) -> float:
    """Norms, gates and rows of BF16 activations: FP32 inside, one rounding outside, FP32 gradients of parameters.

    The worst error in units of the rounding, 2⁻⁸ of the exact number; Triton's interpreter truncates.
    """
    worst = 0.0
    for name, case in cases(SHAPES[0], device).items():
        masters = [x.dim() == 1 or x.shape == (3, 48) for x in case.operands]
        kinds = [torch.float32 if master else torch.bfloat16 for master in masters]
        ours = [x.detach().to(kind).requires_grad_() for x, kind in zip(case.operands, kinds, strict=True)]
        exact = [x.detach().double().requires_grad_() for x in ours]
        found = _weighted(torch.vmap(case.ours, in_dims=case.dims)(*ours), ours)
        outputs = len(found) - len(ours)
        if outputs == 1:
            y = torch.vmap(case.theirs, in_dims=case.dims)(*exact)
        else:  # the norm is that of the rounded sum
            norm = layer_norm if "layer" in name else plain_norm
            y = torch.vmap(partial(_added, norm), in_dims=(case.dims, 0))(tuple(exact), found[0].double())
        expected = _weighted(y, exact)
        assert [y.dtype for y in found] == [*[torch.bfloat16] * outputs, *kinds], name
        for a, b, dim in zip(found, expected, (*[0] * outputs, *case.dims), strict=True):
            bound = b.abs() * (2**-8 if a.dtype == torch.bfloat16 else 0) + 2e-6 * b.abs().max()
            if dim is not None:  # gradients of what members share are summed, and rounded, by autograd
                worst = max(worst, float(((a.double() - b).abs() / bound).max()))
    assert worst <= (1 if device == "cuda" else 2), worst
    table = torch.randn(7, 5, generator=torch.Generator().manual_seed(2)).to(device).requires_grad_()
    rows = embed(table, torch.tensor([3, 3, 1], device=device), torch.bfloat16)
    assert torch.equal(rows, table.detach().bfloat16()[[3, 3, 1]])
    (g,) = torch.autograd.grad(rows, table, torch.full_like(rows, 1 + 2**-7))
    assert g.dtype == torch.float32
    assert torch.equal(g[3], torch.full((5,), 2 + 2**-6, device=device))
    return worst


def _added(norm: Callable[..., Tensor], operands: tuple[Tensor, ...], rounded: Tensor) -> tuple[Tensor, Tensor]:
    """x + y, which has been rounded, and the norm of that with the weight, if there is one."""
    total = operands[0] + operands[1]
    total = total + (rounded - total).detach()
    return total, norm(total, operands[2] if len(operands) > 2 else None)


def _weighted(y: Any, operands: Sequence[Tensor]) -> list[Tensor]:
    """Outputs, and gradients for upstream ones that are BF16 numbers."""
    outputs = [y] if isinstance(y, Tensor) else list(y)
    slopes = [torch.linspace(-1, 2, o.numel(), device=o.device).bfloat16().view(o.shape).to(o.dtype) for o in outputs]
    return [*(o.detach() for o in outputs), *torch.autograd.grad(outputs, operands, slopes)]


def check_unused_outputs(device: str) -> str:
    """Of a sum and its norm only one is used: the other counts as a gradient of 0."""
    x, y, w = tensors(torch.Generator().manual_seed(4), device, (2, 3, 40), (2, 3, 40), (40,))
    for used in (0, 1):
        a = [v.clone().requires_grad_() for v in (x, y, w)]
        b = [v.clone().requires_grad_() for v in (x, y, w)]
        outputs = add_norm(*a, EPS)
        both = add_norm(*b, EPS)
        slope = torch.linspace(-1, 2, x.numel(), device=device).view_as(x)
        zero = torch.zeros_like(x)
        found = torch.autograd.grad(outputs[used], a, slope, allow_unused=True)
        expected = torch.autograd.grad(both, b, (zero, slope) if used else (slope, zero))
        for p, q in zip(found, expected, strict=True):
            assert torch.equal(q if p is None else p, q) if p is not None else not q.any()
    return "as zeros"


def _alike(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """The same bits; on a GPU within the rounding of fused additions, which a variant of a kernel has elsewhere."""
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5 if p.is_cuda else 0, atol=1e-6 if p.is_cuda else 0)


def check_uses(device: str) -> str:
    """A norm for several readers, packed and alone: the gradients are those of their sum, the last reader's first."""
    for e, shape in ((3, (2, 5, 48)), (2, (3, 40))):
        g = torch.Generator().manual_seed(e)
        x, y, w = tensors(g, device, (e, *shape), (e, *shape), (e, shape[-1]))
        slopes = tensors(g, device, *[(e, *shape)] * 4)
        slopes[2] = slopes[2].mT.contiguous().mT  # of other strides
        for uses, center in ((3, False), (2, True)):
            how = Norming(EPS, center, uses)
            several, one = ([v.clone().requires_grad_() for v in (x, y, w)] for _ in range(2))
            total, z = torch.vmap(lambda x, y, w: add_norms(x, y, w, how))(*several)  # noqa: B023
            assert len({part.data_ptr() for part in z}) == 1
            again = torch.vmap(lambda x, y, w: add_norm(x, y, w, EPS, center))(*one)  # noqa: B023
            given = slopes[1 : uses + 1]
            whole = given[-1]
            for slope in given[-2::-1]:
                whole = whole + slope
            found = torch.autograd.grad([total, *z], several, [slopes[0], *given])
            expected = torch.autograd.grad(again, one, [slopes[0], whole])
            _alike((total, z[0], *found), (*again, *expected))
            alone = [v[1].clone().requires_grad_() for v in (x, w)]
            z = norms(*alone, how)
            sole = rms_norm(*alone, EPS, center)
            found = torch.autograd.grad(z, alone, [slope[1] for slope in given])
            expected = torch.autograd.grad(sole, alone, whole[1])
            _alike((z[-1], *found), (sole, *expected))
    return "as their sum"


def check_turn(device: str) -> float:
    """Rotary positions on whole rows, one table for all members and one for each, and back."""
    worst = 0.0
    for e, b, t, heads, size in ((2, 2, 5, 3, 8), (1, 2, 7, 2, 6), (3, 1, 16, 4, 32), (1, 1, 1, 1, 2)):
        g = torch.Generator().manual_seed(size)
        table = rotary_table(t + 2, size).to(device)
        own = torch.stack([table * (i + 1) for i in range(e)])
        q, k = tensors(g, device, (e, b, t, heads * size), (e, b, t, heads * size))
        for tables in (table[:, :t].expand(e, 2, t, size // 2), own[:, :, :t]):
            for inputs in ((q, k), (q, torch.cat([k, k], -1)[..., : heads * size])):
                ours = [x.detach().requires_grad_() for x in inputs]
                theirs = [x.detach().double().requires_grad_() for x in inputs]
                found = gradients(turn(*ours, tables, torch.float32), ours)
                plain = [_turned(x, tables.double(), heads) for x in theirs]
                for p, q_ in zip(found, gradients(plain, theirs), strict=True):
                    worst = max(worst, error(p, q_))
    assert worst < 1e-6, worst
    return worst


def _turned(x: Tensor, tables: Tensor, heads: int) -> Tensor:
    split = x.unflatten(-1, (heads, -1)).transpose(-3, -2)
    return torch.stack([rotate(y, table) for y, table in zip(split, tables, strict=True)]).transpose(-3, -2).flatten(-2)


def check_heads(device: str) -> float:
    """All of attention between the linears, in BF16, packed and alone."""
    worst = 0.0
    for rotary, causal in ((True, True), (False, False)):
        g = torch.Generator().manual_seed(3)
        e, b, t, heads, size = 3, 2, 9, 2, 16
        operands = tensors(g, device, *[(e, b, t, heads * size)] * 3)
        table = rotary_table(t + 3, size).to(device)[:, :t] if rotary else None

        def ours(q: Tensor, k: Tensor, v: Tensor, table: Any = table, causal: bool = causal) -> Tensor:
            y: Tensor = _Heads.apply(q, k, v, table, heads, causal)  # noqa: B023
            return y

        def theirs(q: Tensor, k: Tensor, v: Tensor, table: Any = table, causal: bool = causal) -> Tensor:
            q, k, v = (x.unflatten(-1, (heads, -1)).transpose(-3, -2) for x in (q, k, v))  # noqa: B023
            if table is not None:
                q, k = rotate(q, table), rotate(k, table)
            return attention(q.cpu(), k.cpu(), v.cpu(), causal).transpose(-3, -2).flatten(-2)

        leaves = [x.detach().requires_grad_() for x in operands]
        found = gradients(torch.vmap(ours)(*leaves), leaves)
        for a, c in zip(found, gradients(torch.vmap(theirs)(*leaves), leaves), strict=True):
            worst = max(worst, float((a.cpu() - c.cpu()).norm() / c.norm()))
        one = [x.detach()[1].requires_grad_() for x in operands]
        y = ours(*one)
        assert (y - found[0][1]).norm() < 1e-3 * y.norm()
        assert torch.autograd.grad(y.square().sum(), one)[0].isfinite().all()
    assert worst < 0.02, worst
    return worst


def check_embedding(device: str) -> float:
    """Rows and their gradients; the same bits alone and in a pack; rows that no token took get 0."""
    worst = 0.0
    for e, b, t, v, c in ((3, 2, 50, 70, 48), (2, 1, 7, 3, 65), (1, 1, 1, 1, 2)):
        g = torch.Generator().manual_seed(v)
        (table,) = tensors(g, device, (e, v, c))
        tokens = torch.randint(max(v - 1, 1), (e, b, t), generator=g).to(device)
        for shared in (False, True):
            ids, dims = (tokens[0], (0, None)) if shared else (tokens, (0, 0))
            mine, exact = table.clone().requires_grad_(), table.double().requires_grad_()
            found = gradients(torch.vmap(embed, in_dims=dims)(mine, ids), [mine])
            plain = torch.vmap(lambda w, i: w[i], in_dims=dims)(exact, ids)
            worst = max([worst, *map(error, found, gradients(plain, [exact]))])
            assert v == 1 or not found[1][:, -1].any()
            one = table[0].clone().requires_grad_()
            slope = torch.linspace(-1, 2, found[0].numel(), device=device).view_as(found[0])[0]
            y = embed(one, tokens[0])
            assert torch.equal(y, found[0][0])
            assert torch.equal(torch.autograd.grad(y, one, slope)[0], found[1][0])
    assert worst < 2e-6, worst
    return worst


def check_extremes(device: str) -> str:
    """NaN, infinities, and gates far from 0."""
    a = torch.tensor([-1e4, -100.0, -88.5, -20.0, 0.0, 20.0, 100.0, 1e4, torch.nan], device=device).requires_grad_()
    b = torch.ones(9, device=device).requires_grad_()
    exact = a.detach().double().requires_grad_()
    y, z = gate(a, b), F.silu(exact)
    assert torch.allclose(y.double(), z, rtol=3e-6, atol=1e-30, equal_nan=True)
    (p,), (q,) = torch.autograd.grad(y.sum(), a), torch.autograd.grad(z.sum(), exact)
    assert torch.allclose(p.double(), q, rtol=1e-5, atol=1e-30, equal_nan=True)
    x, w = torch.zeros(2, 3, 16, device=device), torch.ones(2, 16, device=device)
    x[1, 0, 3] = torch.inf
    y = torch.vmap(lambda x, w: rms_norm(x, w, EPS))(x, w)
    assert torch.equal(y[0], x[0])
    assert y[1, 0].isnan().any()
    assert not y[1, 1:].any()
    return "as torch"


CHECKS: dict[str, Callable[[str], object]] = {
    "norm and gate": check_pointwise,
    "without vmap": check_solo_gradients,
    "bf16": check_bf16,
    "unused outputs": check_unused_outputs,
    "several readers": check_uses,
    "rotary": check_turn,
    "attention": check_heads,
    "embedding": check_embedding,
    "extremes": check_extremes,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("error", UserWarning)
    for title, check in CHECKS.items():
        print(title, check(sys.argv[1] if len(sys.argv) > 1 else "cpu"), flush=True)
