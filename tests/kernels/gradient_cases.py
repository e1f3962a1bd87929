"""Quantizers with slopes, and the comparison of the gradients' kernel with the reference: also on a bare GPU machine.

[TRITON_INTERPRET=1] python tests/kernels/gradient_cases.py [NAME ...]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.fused import Use, gradient_structure, gradient_table, gradients, vjp
from dse.fused.checked import all_kernels
from dse.numerics import linear_gemms
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.gemm import Gemm
from dse.numerics.points import Point
from dse.numerics.random import Key
from dse.numerics.registry import from_data
from dse.numerics.techniques.choices import IF4, FourOverSix
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.outliers import Asymmetric, Clamp
from dse.numerics.techniques.rotations import Hadamard, Rotation
from dse.numerics.techniques.rounding import Stochastic, TowardZero
from dse.numerics.techniques.slopes import DGE, Sigmoid, Spline, StraightThrough
from dse.numerics.techniques.statistics import HardSoft, Quest, SoftSoft
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer
from tests.kernels.cases import clock, operands, same

BASE = BlockQuantizer(scale=SCALES["ue4m3"], block=16, slope=DGE())
MASK = StraightThrough(outside="zero")


def quantizers() -> Iterator[tuple[str, BlockQuantizer]]:
    """Every slope and what scales may be, where a gradient takes them as constants."""
    flat = DGE(2.0, normalized=False, outside="zero")
    for slope in (DGE(), flat, Sigmoid(), Spline(), Spline(7, outside="zero"), MASK):
        yield f"{slope}", replace(BASE, slope=slope)
        yield f"{slope} e4m3", replace(BASE, slope=slope, element=ELEMENTS["e4m3"], tensor_scale=Current())
    yield "unquantized", replace(BASE, slope=StraightThrough(), convention=Decode(encode_with="unquantized"))
    yield "encode", replace(BASE, convention=Encode(), tensor_scale=Current())
    yield "encode one", replace(BASE, convention=Encode(True, "one", "unquantized"), tensor_scale=Current(), gain=0.75)
    yield "gain", replace(BASE, gain=0.75)
    yield "gain, tensor scale", replace(BASE, gain=0.75, tensor_scale=Delayed(3), scale_rounding=Stochastic())
    yield "outer", replace(BASE, gain=0.75, tensor_scale=Outer(2))
    yield "flush", replace(BASE, convention=Decode("flush"), scale=SCALES["ue5m2"])
    yield "e8m0", replace(BASE, scale=SCALES["e8m0"], scale_rounding=TowardZero(), constant=4.0, slope=MASK)
    yield "quest", replace(BASE, statistic=Quest(centered=True), scale=SCALES["e8m0"], slope=MASK)
    yield "soft", replace(BASE, statistic=SoftSoft())
    yield "hard", replace(BASE, statistic=HardSoft())
    yield "rows", replace(BASE, block=0, scale=SCALES["fp32"])
    yield "tensor", replace(BASE, block=0, tile=0, scale=SCALES["fp32"])
    yield "tiles of 3 x 5", replace(BASE, block=5, tile=3)
    yield "columns", replace(BASE, block=1, tile=0)
    listed = from_data(BlockQuantizer, "element", {"values": [-3, -1, 0, 0.5, 1, 2.5, 4]}, "element")
    yield "listed", replace(BASE, element=listed, slope=MASK)
    yield "listed, spline", replace(BASE, element=listed, slope=Spline(9))
    yield "four over six", replace(BASE, choice=FourOverSix(), tensor_scale=Current(256.0), rounding=Stochastic())
    yield "if4", replace(BASE, choice=IF4(), tensor_scale=Current(), slope=MASK)


def groups() -> Iterator[tuple[str, list[BlockQuantizer], Rotation | None]]:
    """Members of one launch: those that agree in structure, mixed; and some behind rotations."""
    by_structure: dict[str, list[tuple[str, BlockQuantizer]]] = {}
    for name, q in quantizers():
        by_structure.setdefault(gradient_structure(Use(q, None)), []).append((name, q))
    assert "" not in by_structure, by_structure[""]
    for members in by_structure.values():
        yield members[0][0], [q for _, q in members], None
    known = dict(quantizers())
    yield "quest, rotated", [known["quest"]] * 2, Hadamard(32)
    yield "asymmetric", [replace(BASE, outliers=Asymmetric()), replace(BASE, outliers=Asymmetric(), slope=MASK)], None
    yield "clamp", [replace(BASE, outliers=Clamp(0.9))] * 2, Hadamard(16)
    yield "clamp, dropped", [replace(BASE, outliers=Clamp(0.9, compensate=False), slope=StraightThrough())] * 2, None
    yield "mixed, rotated", [known["e8m0"], known["gain, tensor scale"]], Hadamard(16, "fixed")


def mismatches(
    members: Sequence[BlockQuantizer], rotation: Rotation | None, rows: int, columns: int, device: str, few: bool
) -> tuple[int, list[str]]:
    """How many gradients are compared, and a line for each that differs in a bit."""
    count, lines, number = 0, [], len(members)
    table = gradient_table([Use(q, rotation) for q in members], device)
    for kind, x in operands(number, rows, columns):
        if few and kind not in ("bf16", "special"):
            continue
        for turned in (False, True) if rotation else (False,):
            width = columns + (-columns % rotation.size if rotation and turned else 0)
            g = torch.randn(number, rows, width, generator=torch.Generator().manual_seed(1))
            g[:, 3, ::3], g[:, 2, 1::5] = 0.0, -0.0
            key = Key(clock(number), 3, 1, memory=torch.zeros(number, 6))
            there = replace(key, clock=key.clock.to(device), memory=torch.zeros(number, 6, device=device))
            across = x.mT.contiguous().mT
            for layout in [x if kind == "special" else across] if few else [x, across]:
                found = vjp(layout.to(device), g.to(device), table, there, turned)
                for i, q in enumerate(members):
                    own = replace(key, clock=key.clock[i], memory=torch.zeros(6))
                    gemm = Gemm(q, q, rotation)
                    want = linear_gemms.through(gemm, Point.FPROP_RHS, x[i].float(), g[i], turned, own)
                    count += 1
                    if not same(found[i].cpu(), want):
                        wrong = (found[i].cpu() != want) & ~(found[i].cpu().isnan() & want.isnan())
                        lines.append(f"{kind}, turned {turned}, member {i}: {int(wrong.sum())} of {want.numel()}")
    return count, lines


@all_kernels()
def main(names: Sequence[str]) -> int:
    device, few = ("cuda", False) if torch.cuda.is_available() else ("cpu", True)
    total, bad = 0, 0
    launches = list(groups())
    for fits in (gradients.FITS, 8):  # whole blocks in a program, and Z found first
        gradients.FITS = fits
        for name, members, rotation in launches:
            left = few and name not in ("outer", "quest", "rows", "four over six", "listed")  # the interpreter is slow
            if (names and name not in names) or (fits == 8 and (rotation is not None or left)):
                continue
            for rows, columns in ((9, 40),) if few else ((9, 40), (70, 600), (256, 256)):
                count, lines = mismatches(members, rotation, rows, columns, device, few)
                total, bad = total + count, bad + len(lines)
                if lines:
                    print(f"{name} {rows} x {columns}: {len(lines)} of {count} differ", *lines[:5], sep="\n  ")
    print(f"{total} gradients on {device}, {bad} differ")
    return bad


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]) > 0)
