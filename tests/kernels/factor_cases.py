"""Operands with factors and their products, on any device (no pytest here: a bare GPU machine runs this, too)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from dse import kernels
from dse.fused import quantize_both, table
from dse.fused.carried import keepable
from dse.kernels import SumFactors, descriptors, matmul
from dse.kernels.availability import interpreted
from dse.kernels.epilogue import Epilogue
from dse.kernels.factors import shared_group
from dse.kernels.tilings import MatmulTile, Tiling
from dse.numerics.matmul import contract
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from tests.kernels import cases


class Case(NamedTuple):
    """x [E, M, K] y [E, N, K]^T; ``groups``: of both factors, 0: of rows, None: no factors; ``wide``: x is FP32."""

    members: int
    rows: int
    columns: int
    depth: int
    groups: tuple[int | None, int | None]
    parts: int = 1
    turned: bool = False
    wide: bool = False
    dtype: torch.dtype = torch.float32


SMALL = (
    Case(2, 40, 72, 200, (64, 128), 2, True, dtype=torch.bfloat16),
    Case(1, 33, 40, 136, (0, 64)),
    Case(1, 40, 48, 72, (0, None), 2),
    Case(1, 40, 48, 72, (0, 0), 1, True),
    Case(1, 33, 48, 104, (None, 32), 3),
    Case(1, 40, 48, 48, (16, 0), wide=True),
    Case(1, 34, 48, 80, (None, None), 2, True, wide=True),
    Case(1, 35, 43, 77, (32, None), wide=True),
)
LARGE = tuple(
    Case(2, *shape, groups, turned=turned, wide=wide)
    for shape in ((2048, 128, 128), (1000, 136, 352), (128, 352, 4096), (130, 700, 640))
    for groups, turned, wide in (
        *product(((128, 128), (0, 128), (64, 256), (0, 0), (32, 32), (16, 16)), (False, True), (False,)),
        ((None, 0), True, True),
        ((None, None), False, True),
    )
)


def factors(members: int, rows: int, depth: int, group: int | None, generator: torch.Generator) -> SumFactors | None:
    """Random scales of both small and large magnitudes."""
    if group is None:
        return None
    shape = members, -(-depth // group) if group else 1, rows
    return SumFactors(torch.exp2(4 * torch.randn(shape, generator=generator)), group)


def operands(case: Case, generator: torch.Generator) -> tuple[Quantized, Quantized]:
    found = []
    for rows, group, wide in zip((case.rows, case.columns), case.groups, (case.wide, False), strict=True):
        x = torch.randn(case.members, rows, case.depth, generator=generator)
        x = x if wide else x.bfloat16()
        x = x.mT.contiguous().mT if case.turned else x
        alpha = torch.rand(case.members, 1, 1, generator=generator) + 0.5
        found.append(Quantized(x, alpha, factors(case.members, rows, case.depth, group, generator)))
    return found[0], found[1]


def moved(q: Quantized, device: str, some: slice = slice(None)) -> Quantized:
    """Of ``some`` members, on another device, as it lies."""
    assert q.alpha is not None
    own = q.factors and SumFactors(q.factors.scales[some].to(device), q.factors.group)
    return Quantized(q.values[some].to(device), q.alpha[some].to(device), own)


def exact(q: Quantized) -> Tensor:
    """f(X) in float64, without any rounding."""
    assert q.alpha is not None
    values = q.values.double() * q.alpha.double()
    if q.factors is None:
        return values
    each, group = q.factors.scales.double().mT, q.factors.group
    return values * (each.repeat_interleave(group, -1)[..., : values.shape[-1]] if group else each)


def computed(x: Quantized, y: Quantized, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """By kernels, also in the interpreter."""
    return kernels.contract(x.values, y.values, x.alpha, y.alpha, bias, dtype, (x.factors, y.factors))


def wrong(case: Case, device: str, seed: int = 3) -> Iterator[str]:
    """What is not as it should be."""
    generator = torch.Generator().manual_seed(seed)
    x, y = operands(case, generator)
    bias = torch.randn(case.members, case.columns, generator=generator)
    want = exact(x) @ exact(y).mT + bias.double().unsqueeze(1)
    bound = exact(x).abs() @ exact(y).abs().mT + bias.double().abs().unsqueeze(1)
    allowed = (2**-20 if interpreted() else 2**-18) * bound
    if not ((contract(x, y, bias) - want).abs() <= allowed).all():
        yield f"{case}: the reference is off"
    a, b, c = moved(x, device), moved(y, device), bias.to(device)
    found = computed(a, b, c, torch.float32)
    off = (found.cpu() - want).abs()
    if not (off <= allowed).all():
        yield f"{case}: off by {(off / bound).max().item():.3g} of the sum of magnitudes"
    if not torch.equal(computed(a, b, c, torch.bfloat16), found.bfloat16()):
        yield f"{case}: BF16"
    for i in range(case.members):
        alone = computed(moved(x, device, slice(i, i + 1)), moved(y, device, slice(i, i + 1)), c[i : i + 1], case.dtype)
        if not torch.equal(alone[0], found[i].to(case.dtype)):
            yield f"{case}: member {i} alone"
    yield from different(case, a, b, c, (want, bound))


def different(case: Case, x: Quantized, y: Quantized, bias: Tensor, exact: Sequence[Tensor]) -> Iterator[str]:
    """Routes of a product, with a split contraction axis or without, that do not give the bits of the first."""
    step = 64 if device_of(x) == "cuda" else 16
    tile = MatmulTile(64, 64, min(step, shared_group((x.factors, y.factors)) or step), 4, 2)
    both = (x.factors, y.factors)
    if not descriptors.multiplies(x.values, y.values):
        return
    found = []
    for programs, by_descriptors in ((0, True), (1, True), *(() if case.wide else ((0, False),))):
        out = torch.full((case.members, case.rows, case.columns), torch.nan, dtype=case.dtype, device=x.values.device)
        epilogue = Epilogue.of(x.alpha, y.alpha, bias, out, both)
        matmul.launch(x.values, y.values, epilogue, out, Tiling(tile, case.parts, programs), by_descriptors)
        found.append(out)
    if not all(torch.equal(found[0], other) for other in found[1:]):
        yield f"{case}: routes differ"
    want, bound = exact
    allowed = 2**-18 * bound + (2**-8 * want.abs() if case.dtype == torch.bfloat16 else 0)
    if not ((found[0].cpu() - want).abs() <= allowed).all():
        yield f"{case}: in {case.parts} parts"


def device_of(x: Quantized) -> str:
    return x.values.device.type


def operands_wrong(
    device: str, rows: int, columns: int, kinds: Sequence[str], names: Sequence[str] = ()
) -> Iterator[str]:
    """Values of 16 bits times their factors that are not the reference's bits, of both axes at once.

    ``names``: of the options; none: all.
    """
    x, members = dict(cases.operands(2, rows, columns)), 2
    for name, use in cases.kept_options():
        if names and name not in names:
            continue
        kept, uses = keepable(use), [use] * members
        if kept is None:
            yield f"{name}: nothing is kept out"
            continue
        for kind in kinds:
            t, own = table(uses, device, kept), x[kind].to(device)
            key, here = (Key(cases.clock(members, d), 3, 2) for d in ("cpu", device))
            found = quantize_both(own, t, here, t, here.at(5), torch.bfloat16)
            for q, like, at in zip(found, (x[kind], x[kind].mT), (2, 5), strict=True):
                if q.factors is None or q.values.dtype != torch.bfloat16:
                    yield f"{name}: no factors"
                for line in cases.differences(q.folded(), cases.reference(like, uses, key.at(at))):
                    yield f"{name}, {kind}, point {at}: {line}"
