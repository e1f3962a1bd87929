"""Operands and options for comparing kernels with the reference, also on a bare GPU machine (no pytest here)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dse.fused import Use, structure, uncovered
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, FP32, SCALES, Format
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import BFloat16, Identity, Quantized
from dse.numerics.random import Key
from dse.numerics.recipe import POINTS
from dse.numerics.registry import FAMILIES
from dse.numerics.techniques.choices import IF4, FourOverSix, Grids, ScaleSweep
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.corrections import Eden
from dse.numerics.techniques.outliers import Asymmetric, Clamp
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import (
    AwayFromZero,
    MantissaEven,
    NearestAway,
    NearestEven,
    Rounding,
    Stochastic,
    TowardZero,
)
from dse.numerics.techniques.statistics import ABSMAX, HardSoft, Quest, SoftSoft
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer
from dse.numerics.value_formats import value_format
from dse.recipes import RECIPES

NF4 = [
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
]  # fmt: skip
"""The values of NF4, arXiv 2305.14314."""
E2M1_VALUES = [sign * v for v in ELEMENTS["e2m1"].grid.tolist() for sign in (1, -1) if v or sign > 0]
BASE = BlockQuantizer(scale=SCALES["ue4m3"], block=16)


def options() -> Iterator[tuple[str, Use]]:
    """Each format, rounding, scale rule, block, tile and rotation once, and some that meet."""
    for name, fmt in ELEMENTS.items():
        yield f"element={name}", Use(replace(BASE, element=fmt), None)
        yield f"element={name} stochastic", Use(replace(BASE, element=fmt, rounding=Stochastic()), None)
        yield f"element={name} stochastic 12", Use(replace(BASE, element=fmt, rounding=Stochastic(12)), None)
    for name, fmt in SCALES.items():
        yield f"scale={name}", Use(replace(BASE, scale=fmt), None)
        yield f"scale={name} tensor", Use(replace(BASE, scale=fmt, tensor_scale=Current()), None)
    for name, technique in FAMILIES[Rounding].items():
        yield f"rounding={name}", Use(replace(BASE, rounding=technique()), None)
        for scale in ("e8m0", "ue4m3", "bf16", "fp32"):
            q = replace(BASE, scale=SCALES[scale], scale_rounding=technique())
            yield f"scale_rounding={name} {scale}", Use(q, None)
    for bits in (1, 3, 7, 16, 17, 23):
        yield f"stochastic {bits}", Use(replace(BASE, rounding=Stochastic(bits), scale_rounding=Stochastic(bits)), None)
    for zero in ("flush", "smallest", "one"):
        for scaled in (None, Current(), Current(448.0)):
            for used in ("quantized", "unquantized"):
                q = replace(BASE, convention=Decode(zero, used), tensor_scale=scaled)
                yield f"decode {zero} {used} {scaled}", Use(q, None)
                if zero != "flush":
                    for divisor in (False, True):
                        q = replace(q, convention=Encode(divisor, zero, used))
                        yield f"encode {zero} {used} {divisor} {scaled}", Use(q, None)
    for block in (16, 32, 64, 128):
        for tile in (1, 2, 16, 32):
            q = replace(BASE, block=block, tile=tile, tensor_scale=Current(), rounding=Stochastic())
            yield f"block={block} tile={tile}", Use(replace(q, scale_rounding=Stochastic(5)), None)
    for size in (2, 4, 8, 16, 32, 64, 128):
        for signs in ("none", "fixed", "random"):
            q = replace(BASE, block=32, rounding=Stochastic(), tensor_scale=Current())
            yield f"hadamard {size} {signs}", Use(q, Hadamard(size, signs))
    yield "identity", Use(Identity(), None)
    yield "bf16", Use(BFloat16(), None)
    yield "bf16 rotated", Use(BFloat16(), Hadamard(32))
    yield "gain", Use(replace(BASE, gain=0.75), None)
    yield "gain, tensor scale", Use(replace(BASE, gain=16 / 17, tensor_scale=Current()), Hadamard(16))
    yield "square", Use(replace(BASE, tile=16, tensor_scale=Current()), None)
    yield "delayed", Use(replace(BASE, tensor_scale=Delayed(3)), None)
    yield "ocp", Use(BlockQuantizer(constant=4.0, scale_rounding=TowardZero()), None)
    yield "mantissa even", Use(BlockQuantizer(constant=4.0, scale_rounding=MantissaEven(1)), None)


def general_options() -> Iterator[tuple[str, Use]]:
    """Choices, statistics, outer scales, shapes and formats that the general kernels of blocks compute."""
    scaled = replace(BASE, tensor_scale=Current())
    roundings = (NearestEven(), NearestAway(), Stochastic(), Stochastic(12), Stochastic(20))
    for choice in (FourOverSix, IF4, ScaleSweep):
        for error in ("mse", "mae", "max"):
            for rounding in roundings:
                q = replace(scaled, choice=choice(error=error), rounding=rounding)
                yield f"{choice.__name__} {error} {rounding}", Use(q, None)
        for tile in (1, 16):
            for level in (None, Current(256.0), Delayed(3)):
                q = replace(scaled, choice=choice(), tile=tile, tensor_scale=level, gain=0.75)
                yield f"{choice.__name__} tile={tile} {level}", Use(q, None)
    for scale, fmt in SCALES.items():
        if fmt.exp + fmt.man <= 15:
            q = replace(BASE, choice=ScaleSweep(-2, 3), scale=fmt, scale_rounding=TowardZero())
            yield f"sweep {scale}", Use(q, None)
            yield f"sweep {scale} tensor", Use(replace(q, tensor_scale=Current()), None)
    for statistic in (Quest(), Quest(centered=True), SoftSoft(), SoftSoft(1.0), HardSoft()):
        for convention in (Decode(), Encode(), Decode(encode_with="unquantized")):
            for level in (None, Current()):
                q = replace(BASE, block=32, statistic=statistic, convention=convention, tensor_scale=level)
                yield f"{statistic} {convention} {level}", Use(replace(q, scale_rounding=Stochastic(5)), None)
    for blocks in (0, 2, 3, 8):
        for tile in (1, 4):
            for convention in (Decode(), Decode("smallest"), Encode()):
                q = replace(BASE, tile=tile, convention=convention, tensor_scale=Outer(blocks))
                yield f"outer {blocks} tile={tile} {convention}", Use(q, None)
                yield (
                    f"outer {blocks} tile={tile} {convention} stochastic",
                    Use(replace(q, rounding=Stochastic()), None),
                )
    for block, tile in ((1, 7), (3, 1), (8, 8), (12, 5), (24, 1), (16, 3), (128, 64)):
        for rounding in roundings:
            q = replace(scaled, block=block, tile=tile, rounding=rounding, statistic=Quest())
            yield f"block={block} tile={tile} {rounding}", Use(q, None)
            yield f"block={block} tile={tile} {rounding} absmax", Use(replace(q, statistic=ABSMAX), None)
    for block, tile in ((0, 1), (0, 0), (1, 0)):  # whole rows, operands, columns
        for statistic in (ABSMAX, Quest(), Quest(centered=True), SoftSoft()):
            q = replace(scaled, block=block, tile=tile, statistic=statistic)
            yield f"block={block} tile={tile} {statistic}", Use(q, None)
            q = replace(q, rounding=Stochastic(), scale_rounding=Stochastic(12), tensor_scale=None, scale=FP32)
            yield f"block={block} tile={tile} {statistic} FP32", Use(q, None)
        for choice in (FourOverSix(), FourOverSix("mae"), IF4("max"), ScaleSweep(-1, 2)):
            q = replace(scaled, block=block, tile=tile, choice=choice)
            yield f"block={block} tile={tile} {choice}", Use(q, None)
            yield f"block={block} tile={tile} {choice} stochastic", Use(replace(q, rounding=Stochastic()), None)
    for rounding in roundings:
        long = Format("e5m10", 5, 10, 15, 65504.0)
        yield f"e5m10 {rounding}", Use(replace(BASE, element=long, rounding=rounding), None)
    lists = ([0, 0.5, 1, 1.5, 2, 3, 4, 6], NF4, [0, 1], [-1, 0, 0.3, 2, 7, 20])
    for values in lists:
        for rounding in (*roundings, AwayFromZero(), TowardZero(), MantissaEven(1)):
            q = replace(scaled, element=value_format(values), rounding=rounding)
            yield f"{len(values)} values to {values[-1]} {rounding}", Use(q, None)
        q = replace(scaled, element=value_format(values), choice=ScaleSweep(-1, 1))
        yield f"{len(values)} values to {values[-1]}, sweep", Use(q, None)
        q = replace(scaled, element=value_format(values), block=0, tile=0, rounding=Stochastic())
        yield f"{len(values)} values to {values[-1]}, whole", Use(q, None)
    for outliers in (Clamp(), Clamp(0.75, compensate=False), Asymmetric()):
        for level in (None, Current()):
            for rotation in (None, Hadamard(32)):
                q = replace(BASE, outliers=outliers, tensor_scale=level)
                yield f"{outliers} {level} {rotation}", Use(q, rotation)
            yield f"{outliers} {level} stochastic", Use(replace(q, rounding=Stochastic()), None)
        yield f"{outliers}, choice", Use(replace(scaled, outliers=outliers, choice=FourOverSix()), None)
    for size in (16, 64, 128):
        yield f"rotated {size}", Use(replace(scaled, choice=FourOverSix()), Hadamard(size))


def corrected_options() -> Iterator[tuple[str, Use]]:
    """Corrections of scales: short and long blocks, groups of one and several, choices, outer scales."""
    scaled = replace(BASE, tensor_scale=Current())
    for block, tile, correction in (
        (16, 1, Eden(128)), (32, 4, Eden(64, 8, "elements")), (24, 1, Eden(72, 20)), (128, 3, Eden(16)),
        (0, 1, Eden(128, units="elements")), (0, 0, Eden(32)), (1, 0, Eden(3)),
    ):  # fmt: skip
        for rounding in (NearestEven(), NearestAway(), Stochastic(), Stochastic(12)):
            q = replace(scaled, block=block, tile=tile, correction=correction, constant=5.0, rounding=rounding)
            yield f"{correction} block={block} tile={tile} {rounding}", Use(q, None)
        for scale in ("e8m0", "ue5m3", "bf16", "fp32"):
            q = replace(q, scale=SCALES[scale], tensor_scale=None, gain=0.75, rounding=NearestEven())
            yield f"{correction} block={block} tile={tile} {scale}", Use(q, None)
    for block in (16, 0):
        for choice in (FourOverSix(), IF4("mae"), ScaleSweep(-1, 1)):
            q = replace(scaled, block=block, choice=choice, correction=Eden(64), gain=0.75)
            yield f"{choice}, {q.correction} block={block}", Use(q, None)
    for blocks, group in ((8, 64), (4, 128), (3, 64), (3, 48)):
        q = replace(BASE, tensor_scale=Outer(blocks), correction=Eden(group))
        yield f"outer {blocks}, {q.correction}", Use(q, None)
    yield "Eden, NF4", Use(replace(scaled, element=value_format(NF4), correction=Eden(32)), None)
    yield "Eden, outliers", Use(replace(BASE, outliers=Clamp(), correction=Eden(32)), None)


def grid_options() -> Iterator[tuple[str, Use]]:
    """Choices between lists of values, of any length, and formats."""
    scaled = replace(BASE, tensor_scale=Current())
    plus, minus = (value_format(sorted([*E2M1_VALUES, special])) for special in (5.0, -5.0))
    for element, others in (
        (minus, (plus,)), (minus, (value_format(NF4), value_format([0, 1]))), (ELEMENTS["e2m1"], (minus,)),
        (plus, (ELEMENTS["int4"],)), (value_format(NF4), (ELEMENTS["e3m0"], ELEMENTS["e4m3"])),
    ):  # fmt: skip
        for rounding in (NearestEven(), NearestAway(), TowardZero(), AwayFromZero(), Stochastic(), Stochastic(12)):
            q = replace(scaled, element=element, choice=Grids(others), rounding=rounding)
            yield f"{element.name} or {[fmt.name for fmt in others]} {rounding}", Use(q, None)
        for error, block, tile in (("mae", 16, 16), ("max", 24, 1), ("mse", 0, 1), ("mae", 0, 0)):
            q = replace(q, choice=Grids(others, error), block=block, tile=tile, gain=0.75)
            yield f"{element.name} or {[fmt.name for fmt in others]} {error} block={block} tile={tile}", Use(q, None)


def micro_options() -> Iterator[tuple[str, Use]]:
    """Micro-exponents of one, two and three levels, in groups of 16 and beyond."""
    scaled = replace(BASE, tensor_scale=Current())
    hif4 = RECIPES["hif4"].fprop.lhs
    assert isinstance(hif4, BlockQuantizer)
    for tile in (1, 4):
        yield f"hif4 tile={tile}", Use(replace(hif4, tile=tile), None)
        for sizes, block in (((8, 4), 64), ((16,), 32), ((2,), 16), ((16, 8, 1), 32), ((32, 8), 64), ((8, 2), 24)):
            q = replace(scaled, block=block, tile=tile, micro_exponents=sizes)
            yield f"{sizes} block={block} tile={tile}", Use(q, None)
            yield f"{sizes} block={block} tile={tile} stochastic", Use(replace(q, rounding=Stochastic()), None)
            q = replace(q, tensor_scale=None, scale=SCALES["fp32"], element=ELEMENTS["e4m3"])
            yield f"{sizes} block={block} tile={tile} fp32", Use(q, None)
            yield f"{sizes} block={block} tile={tile} encode", Use(replace(q, convention=Encode()), None)
    yield "micro-exponents, outer", Use(replace(BASE, tensor_scale=Outer(2), micro_exponents=(4,)), None)
    for choice in (FourOverSix(), IF4()):
        q = replace(scaled, choice=choice, micro_exponents=(8, 2), gain=0.75)
        yield f"micro-exponents, {choice}", Use(q, None)


def block_options() -> Iterator[tuple[str, Use]]:
    """A few of them that kernels are compiled for, by short names."""
    scaled = replace(BASE, tensor_scale=Current())
    yield "4 over 6 away", Use(replace(scaled, choice=FourOverSix(), rounding=NearestAway()), None)
    yield "4 over 6 mae", Use(replace(scaled, choice=FourOverSix("mae")), Hadamard(64, "random"))
    yield "4 over 6 square", Use(replace(BASE, choice=FourOverSix(), tile=16, gain=0.75), None)
    yield "if4 stochastic", Use(replace(scaled, choice=IF4(), rounding=Stochastic()), Hadamard(16, "fixed"))
    yield "sweep", Use(replace(scaled, choice=ScaleSweep(-1, 2)), None)
    yield "outer stochastic", Use(replace(BASE, tensor_scale=Outer(8), rounding=Stochastic()), Hadamard(16, "random"))
    yield "outer encode", Use(replace(BASE, tile=4, tensor_scale=Outer(2), convention=Encode(divisor=True)), None)
    yield "outer of rows", Use(replace(BASE, tensor_scale=Outer(0), rounding=Stochastic()), Hadamard(32, "random"))
    yield (
        "outer of rows, tiles",
        Use(replace(BASE, tile=4, tensor_scale=Outer(0), convention=Encode(divisor=True)), None),
    )
    yield "quest", Use(replace(BASE, block=32, statistic=Quest(centered=True)), Hadamard(32, "none"))
    plus, minus = (value_format(sorted([*E2M1_VALUES, special])) for special in (5.0, -5.0))
    yield "two lists", Use(replace(scaled, element=minus, choice=Grids((plus,))), Hadamard(16, "fixed"))
    q = replace(BASE, block=32, tile=2, element=value_format(sorted(E2M1_VALUES)), rounding=NearestAway())
    yield "a list", Use(q, None)
    q = replace(scaled, constant=6.1, rounding=NearestAway(), correction=Eden(32))
    yield "eden", Use(q, Hadamard(32, "random"))


def kept_options() -> Iterator[tuple[str, Use]]:
    """Operands of which a scale is kept out: outer ones of 128 elements and of rows, those of blocks and of rows."""
    fp8 = BlockQuantizer(ELEMENTS["e4m3"], FP32, 64, tensor_scale=Current())
    yield "outer 8", Use(replace(BASE, tensor_scale=Outer(8), rounding=Stochastic()), Hadamard(16, "random"))
    yield "outer 4, tiles", Use(replace(BASE, tile=4, tensor_scale=Outer(4)), None)
    yield "outer of rows", Use(replace(BASE, tensor_scale=Outer(0)), Hadamard(32, "fixed"))
    yield "outer of rows, tiles", Use(replace(BASE, tile=2, tensor_scale=Outer(0), gain=0.75), None)
    yield "blocks", Use(fp8, Hadamard(16, "random"))
    yield "blocks, tiles", Use(replace(fp8, tile=8, scale=SCALES["bf16"], tensor_scale=None), None)
    yield "outer, e4m3", Use(replace(fp8, scale=SCALES["ue4m3"], tensor_scale=Outer(2)), None)
    yield "rows", Use(BlockQuantizer(scale=FP32, block=0, rounding=Stochastic()), None)
    yield "blocks of 16", Use(replace(fp8, scale=FP32, block=16, tensor_scale=None), Hadamard(16, "random"))
    encoded = replace(BASE, block=32, convention=Encode(), rounding=Stochastic())
    yield "blocks of 32", Use(encoded, Hadamard(32, "fixed"))
    yield "all", Use(BlockQuantizer(ELEMENTS["e5m2"], FP32, 0, 0), None)


def large_rotations() -> Iterator[tuple[str, Use]]:
    """Rotations of more elements than a block has."""
    for size in (256, 512, 1024):
        for signs in ("none", "fixed", "random"):
            q = replace(BASE, rounding=Stochastic(), tensor_scale=Current())
            yield f"hadamard {size} {signs}", Use(q, Hadamard(size, signs))
    yield "identity, hadamard 1024", Use(Identity(), Hadamard(1024))


def structures(uses: Iterable[tuple[str, Use]]) -> dict[str, tuple[tuple[str, Use], ...]]:
    """The same by the program that computes them."""
    found: dict[str, list[tuple[str, Use]]] = {}
    for name, use in uses:
        found.setdefault(structure(use), []).append((name, use))
    return {program: tuple(own) for program, own in found.items()}


def recipes() -> Iterator[tuple[str, Use]]:
    """The six operands of every published recipe, where the kernels cover them."""
    for recipe in RECIPES.values():
        for point in POINTS:
            use = Use(recipe.quantizer(point), getattr(recipe, point.split(".")[0]).rotation)
            if not uncovered(use):
                yield f"{recipe.name} {point}", use


def operands(members: int, rows: int, columns: int, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Random, tiny, huge, tied and special operands, float32 on the CPU."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(members, rows, columns, generator=g)
    yield "normal", x
    yield "bf16", x.bfloat16()
    yield "tiny", x * 1e-6
    yield "wide", x * (6 * torch.randn(members, rows, columns, generator=g)).exp()
    yield "ties", (x * 8).round() / 4
    special = x.clone()
    special[:, 0, :16], special[:, 1 % rows, 3 % columns] = 0.0, torch.nan
    special[:, 2 % rows, 5 % columns], special[:, 3 % rows, : columns // 2] = torch.inf, 1e-42
    special[:, 4 % rows, ::2], special[:, 5 % rows, 1::3] = -0.0, -torch.inf
    yield "special", special
    infinite = x.clone()  # without a NaN, and of two members in three
    infinite[1 % members :: 3, 2 % rows, 5 % columns] = torch.inf
    infinite[2 % members :: 3, 4 % rows, 1 % columns] = -torch.inf
    yield "infinite", infinite
    yield "subnormal", x * 1e-40
    yield "zero", x * 0
    yield "largest", x.sign() * torch.finfo(torch.float32).max


def clock(members: int, device: str = "cpu") -> Tensor:
    """Seeds with high words, and steps."""
    return torch.stack([torch.tensor([2**40 + 7 * i, 3 * (i % 2) + i // 2]) for i in range(members)]).to(device)


def reference(x: Tensor, uses: Sequence[Use], key: Key) -> list[Quantized]:
    """Each member alone: rotation of its GEMM, then its quantizer."""
    found = []
    for i, (quantizer, rotation) in enumerate(uses):
        own = replace(key, clock=key.clock[i], memory=None if key.memory is None else key.memory[i])
        gemm = Gemm(quantizer, quantizer, rotation)
        xi = x[i].float()
        basis = gemm.basis(xi, own.at(key.point & ~1))
        found.append(quantizer(gemm.turn(xi, basis), own))
    return found


def differences(found: Quantized, expected: Sequence[Quantized]) -> list[tuple[int, str]]:
    """(member, what differs): values bit for bit with the signs of zeros, any NaN for any NaN, zeros in the padding.

    Below 2^-126 a BF16 operand keeps what BF16 has: the reference's value, rounded to it (see ``exact_in_bf16``).
    """
    bad = []
    for i, exact in enumerate(expected):
        values = found.values[i].float()
        tiny = exact.values.abs() < 2.0**-126
        want = exact._replace(
            values=torch.where(tiny, exact.values.to(found.values.dtype).to(exact.values.dtype), exact.values)
        )
        columns = want.values.shape[-1]
        if not same(values[:, :columns], want.values.to(values.device)):
            a, b = values[:, :columns].cpu(), want.values.cpu()
            wrong = (a != b) & ~(a.isnan() & b.isnan())
            at = wrong.nonzero()[0].tolist() if wrong.any() else []
            example = f" {a[tuple(at)].item()!r} for {b[tuple(at)].item()!r} at {at}" if at else " (zeros' signs)"
            bad.append((i, f"{int(wrong.sum())} of {a.numel()} values{example}"))
        if values[:, columns:].any() or values[:, columns:].isnan().any():
            bad.append((i, "padding is not zero"))
        own = torch.ones(1, 1) if found.alpha is None else found.alpha[i].cpu()
        alpha = torch.ones(1, 1) if want.alpha is None else want.alpha.cpu()
        if not same(own, alpha):
            bad.append((i, f"alpha {own.item()!r} for {alpha.item()!r}"))
    return bad


def same(a: Tensor, b: Tensor) -> bool:
    a, b = (t.where(~t.isnan(), torch.nan).contiguous().view(torch.int32) for t in (a, b))
    return torch.equal(a, b)
