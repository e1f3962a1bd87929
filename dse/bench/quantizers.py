"""The cases of ``dse.bench.kernels``: quantizers, tile shapes, and other programs that compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from dse.fused import Use, exact_in_bf16, exact_in_fp16, quantize, quantize_both, table
from dse.fused.launch import LaunchShape
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E5M2, E8M0, ELEMENTS, FP32, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.random import Key
from dse.numerics.techniques.choices import IF4, FourOverSix, ScaleSweep
from dse.numerics.techniques.conventions import Decode
from dse.numerics.techniques.outliers import Clamp
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import NearestAway, Stochastic, TowardZero
from dse.numerics.techniques.statistics import Quest, SoftSoft
from dse.numerics.techniques.tensor_scales import Current, Outer

_ONE = LaunchShape(across_positions=128, across=128)
SHAPES: dict[str, LaunchShape | None] = {
    "default": None,
    "apart": _ONE,
    "repeat 2": replace(_ONE, apart=False, repeat=2),
    "repeat 4": replace(_ONE, apart=False, repeat=4),
    "two a thread": LaunchShape(positions=256, apart=False),
    "two warps": LaunchShape(positions=64, across_positions=64, across=64, warps=2, apart=False),
    "eight warps": LaunchShape(positions=256, across_positions=256, across=256, warps=8, apart=False),
    "table": replace(_ONE, known=False, apart=False),
    "table, repeat 2": replace(_ONE, known=False, apart=False, repeat=2),
    "table, repeat 4": replace(_ONE, known=False, apart=False, repeat=4),
    "table, apart, two a thread": LaunchShape(known=False),
}
"""Tile shapes to choose from; by default the launcher does."""

_NEAREST = BlockQuantizer(E2M1, UE4M3, 16)
_RANDOM = replace(_NEAREST, rounding=Stochastic(8))
_TURN = Hadamard(16, "random")
_CURRENT = replace(_NEAREST, tensor_scale=Current())


class Figure(NamedTuple):
    """An operand; ``axes``: 1, 2 (both from one read) or -1 (along the rows of memory); ``target``: times a copy.

    ``second``: of both axes, how the operand across the rows is quantized, where that differs.
    """

    use: Use
    target: float | None = None
    axes: int = 1
    dtype: torch.dtype = torch.bfloat16
    second: Use | None = None


FIVE = {
    "nearest": Figure(Use(_NEAREST, None), 1.10),
    "Hadamard 16": Figure(Use(_NEAREST, _TURN), 1.15),
    "stochastic 8": Figure(Use(_RANDOM, None), 1.15),
    "stochastic 8, Hadamard 16": Figure(Use(_RANDOM, _TURN), 1.25),
    "both axes": Figure(Use(_NEAREST, None), 1.75, 2),
}
"""The issue's figures."""
_FIXED = Hadamard(16, "fixed")
_GRADIENT = replace(_CURRENT, rounding=Stochastic(8))
PACKED = {
    "nvfp4 X": Figure(Use(_CURRENT, None), None, 2, second=Use(_CURRENT, _FIXED)),
    "nvfp4 G": Figure(Use(_GRADIENT, None), None, 2, second=Use(_GRADIENT, _FIXED)),
    "nvfp4 G, FP32 in": Figure(Use(_GRADIENT, None), None, 2, torch.float32, Use(_GRADIENT, _FIXED)),
}
"""Operands of the recipe nvfp4, both axes, with their tensor scales."""
MORE = {
    "transposed": Figure(Use(_NEAREST, None), None, -1),
    "mxfp4": Figure(Use(BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=TowardZero()), None)),
    "nvfp4 fprop X": Figure(Use(_CURRENT, None)),
    "nvfp4 W, both axes": Figure(Use(replace(_CURRENT, tile=16), None), None, 2),
    "nvfp4 wgrad G": Figure(Use(_GRADIENT, _FIXED), None, -1),
    "FP32 in": Figure(Use(_NEAREST, None), dtype=torch.float32),
    "FP32 in, both axes": Figure(Use(_NEAREST, None), None, 2, torch.float32),
    "both axes, stochastic 8, Hadamard 16": Figure(Use(_RANDOM, _TURN), None, 2),
    "Hadamard 128": Figure(Use(_NEAREST, Hadamard(128))),
}
_CHOICE = replace(_NEAREST, tensor_scale=Current(256.0), choice=FourOverSix())
_OUTER = replace(_NEAREST, tensor_scale=Outer(8))
_ROW = BlockQuantizer(E2M1, FP32, 0)
_QUEST = BlockQuantizer(E2M1, E8M0, 32, statistic=Quest(centered=True), scale_rounding=TowardZero())
_COPY = replace(_CURRENT, convention=Decode(zero="one"), rounding=Stochastic(8), gain=16 / 17)
_UNIFORM = BlockQuantizer(ELEMENTS["e1m2"], FP32, 16)
RECIPES = {
    "if4 X": Figure(
        Use(replace(_CURRENT, choice=IF4()), None), None, 2, second=Use(replace(_CURRENT, choice=IF4()), _FIXED)
    ),
    "if4 G": Figure(
        Use(replace(_GRADIENT, choice=IF4()), None), None, 2, second=Use(replace(_GRADIENT, choice=IF4()), _FIXED)
    ),
    "if4 W": Figure(Use(replace(_CURRENT, tile=16, choice=IF4()), None), None, 2),
    "four over six, X": Figure(Use(_CHOICE, None), None, 2, second=Use(_CURRENT, _FIXED)),
    "tetrajet2 X": Figure(Use(_OUTER, None)),
    "tetrajet2 G": Figure(
        Use(replace(_OUTER, rounding=Stochastic(8), convention=Decode(zero="smallest")), _TURN), None, 2
    ),
    "quartet2 X": Figure(Use(replace(_CHOICE, rounding=NearestAway(), convention=Decode(zero="one")), None)),
    "quartet2 copies": Figure(Use(_COPY, Hadamard(128)), None, -1, torch.float32),
    "quartet X": Figure(Use(_QUEST, Hadamard(32, "none"))),
    "ufp4 X": Figure(Use(_UNIFORM, _TURN), None, 2),
    "ufp4 G": Figure(Use(replace(_UNIFORM, rounding=Stochastic(8)), _TURN), None, 2),
}
"""Operands of published recipes beside nvfp4, as their layers read them."""
GENERAL = {
    "four over six, X": Figure(Use(_CHOICE, None)),
    "four over six, X, both axes": Figure(Use(_CHOICE, None), None, 2),
    "four over six, W": Figure(Use(replace(_CHOICE, tile=16), None), None, 2),
    "four over six, absolute error": Figure(Use(replace(_CHOICE, choice=FourOverSix("mae")), None), None, -1),
    "if4 G": Figure(Use(replace(_GRADIENT, choice=IF4()), None)),
    "scale sweep": Figure(Use(replace(_CURRENT, choice=ScaleSweep()), None)),
    "quest, Hadamard 32": Figure(Use(_QUEST, Hadamard(32, "none")), None, 2),
    "soft maximum": Figure(Use(replace(_NEAREST, statistic=SoftSoft()), None)),
    "outer scales": Figure(Use(_OUTER, None), None, 2),
    "outer scales, stochastic 8, Hadamard 16": Figure(Use(replace(_OUTER, rounding=Stochastic(8)), _TURN), None, 2),
    "rows": Figure(Use(_ROW, None)),
    "columns": Figure(Use(replace(_ROW, block=1, tile=0), None), None, -1),
    "operand": Figure(Use(BlockQuantizer(E5M2, FP32, 0, 0), None), None, 2),
    "rows, clamped": Figure(Use(replace(_ROW, outliers=Clamp()), None)),
}
"""Operands that the general kernels of blocks compute."""


@dataclass(frozen=True)
class TimedCall:
    """One row: ``call`` is timed on each operand in turn."""

    figure: str
    variant: str
    call: Callable[[Tensor], object]
    dtype: torch.dtype = torch.bfloat16
    target: float | None = None


def key(device: str) -> Key:
    """Of a pack of one."""
    return Key(torch.tensor([[1, 2]], device=device), 3, 2)


def kernel_jobs(device: str, quick: bool) -> Iterator[TimedCall]:
    """The five figures and nvfp4's with the default tile first, then with the others, then more operands."""
    for label, shape in SHAPES.items():
        for name, figure in (FIVE | PACKED).items():
            yield _kernel(name, label, figure, shape, device)
    more = [*list(MORE.items())[: 6 if quick else None], *RECIPES.items()]
    more += list(GENERAL.items())[: 4 if quick else None]
    for name, figure in more:
        yield _kernel(name, "default", figure, None, device)


def reference_jobs(device: str, quick: bool) -> Iterator[TimedCall]:
    """The plain-torch quantizers, their compilation, and peers where they can be imported."""
    names = ["nearest", "stochastic 8, Hadamard 16"] if quick else [*FIVE, *MORE]
    for name in names:
        figure = (FIVE | MORE)[name]
        if figure.axes == 1:
            yield TimedCall(name, "eager reference", partial(_refer, figure.use, key(device)), figure.dtype)
    if not quick:
        compiled = torch.compile(lambda v: _NEAREST(v.float()).values.bfloat16())
        yield TimedCall("nearest", "compiled reference", lambda x: compiled(x[0]))
    yield from _peers()


def _kernel(name: str, label: str, figure: Figure, shape: LaunchShape | None, device: str) -> TimedCall:
    t, k = table([figure.use], device), key(device)
    second = table([figure.second or figure.use], device)

    uses = (figure.use, figure.second or figure.use)
    short = torch.float16 if all(map(exact_in_fp16, uses)) else torch.float32
    dtype = torch.bfloat16 if all(map(exact_in_bf16, uses)) else short

    def call(x: Tensor) -> object:
        if figure.axes == 2:
            return quantize_both(x, t, k, second, k.at(5), dtype, shape)
        return quantize(x if figure.axes == 1 else x.mT, t, k, dtype, shape)

    return TimedCall(name, label, call, figure.dtype, figure.target)


def _refer(use: Use, k: Key, x: Tensor) -> object:
    gemm = Gemm(use.quantizer, use.quantizer, use.rotation)
    y = x.float()
    return use.quantizer(gemm.turn(y, gemm.basis(y, k)), k).values.bfloat16()


def _peers() -> Iterator[TimedCall]:
    """Other emulations of MXFP4."""
    try:
        from torchao.prototype.mx_formats.mx_tensor import MXTensor
    except ImportError:
        pass
    else:
        yield TimedCall(
            "mxfp4", "torchao", lambda x: MXTensor.to_mx(x[0], torch.float4_e2m1fn_x2, 32).dequantize(torch.bfloat16)
        )
    try:
        operations, settings = import_module("mx.mx_ops"), import_module("mx.specs")
    except ImportError:
        return
    specs = settings.apply_mx_specs(
        {"w_elem_format": "fp4_e2m1", "a_elem_format": "fp4_e2m1", "block_size": 32, "bfloat": 16}
    )
    yield TimedCall("mxfp4", "microxcaling", lambda x: operations.quantize_mx_op(x[0], specs, "fp4_e2m1", 32, [-1]))
