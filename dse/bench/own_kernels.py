"""The project's own kernels, timed on this machine beside what the time model says: quantization and products.

On a GPU the Triton kernels; on a CPU the compiled loops, or the plain-torch reference where these do not cover a
quantizer. Operands are those of a deployed model's layers: X [M, K], W [N, K] and G [M, N] in memory as a training has
them, quantized along rows or columns as each GEMM reads them. Values are decoded, so a product is one of 16 bits (or
32, where decoded values need them), whatever the recipe; prediction and measurement both are of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dse.bench.kernels import seconds
from dse.cost.models import Deployed, placed
from dse.cost.roofline import Fusion, GemmCall, Machine, Work, stages
from dse.cost.shapes import LayerShape
from dse.cost.sharing import TENSORS, codes_from
from dse.fused import Use, exact_in_bf16, quantize, table
from dse.fused.support import uncovered
from dse.kernels import cpu_loops, takes
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.recipe import GEMMS, POINTS, Recipe

_BYTES = 256 << 20
"""Of the operands that a measurement on a GPU cycles through: several times its cache."""
_TRANSPOSED = ("dgrad.rhs", "wgrad.lhs", "wgrad.rhs")
"""Points that read their tensor's columns."""
_KERNEL, _LOOPS, _REFERENCE = "triton", "cpu loops", "reference"


class TimedKernel(NamedTuple):
    """One kernel: ``what`` it does at which shape, the ``program`` that did it, and seconds.

    ``predicted``: NaN where no hardware was named that a prediction could be of.
    """

    layer: str
    what: str
    rows: int
    columns: int
    program: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class _Operand:
    """An operand of a layer's GEMM as memory holds its tensor, and how it is quantized."""

    recipe: Recipe
    shape: LayerShape
    point: str
    device: str

    @property
    def gemm(self) -> Gemm:
        own: Gemm = getattr(self.recipe, self.point.split(".")[0])
        return own

    @property
    def use(self) -> Use:
        return Use(self.recipe.quantizer(self.point), self.gemm.rotation)

    @property
    def program(self) -> str:
        if self.device != "cpu":
            return _REFERENCE if uncovered(self.use) else _KERNEL
        quantizer = self.use.quantizer
        loops = isinstance(quantizer, BlockQuantizer) and bool(quantizer._loop_options)
        return _LOOPS if loops and cpu_loops.in_use() else _REFERENCE

    @property
    def dtype(self) -> torch.dtype:
        """Of the decoded values, and on a CPU of the operand too."""
        return torch.bfloat16 if self.program == _KERNEL and exact_in_bf16(self.use) else torch.float32

    def tensors(self) -> list[Tensor]:
        """Different tensors [1, R, C] as memory holds them, on a GPU as many as exceed its cache."""
        m, k, n = self.shape.tokens, self.shape.inputs, self.shape.outputs
        sides = {"X": (m, k), "W": (n, k), "G": (m, n)}[TENSORS[self.point]]
        generator = torch.Generator(self.device).manual_seed(0)
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        count = 1 if self.device == "cpu" else max(2, min(16, -(-_BYTES // (dtype.itemsize * math.prod(sides)))))
        return [torch.randn(1, *sides, device=self.device, generator=generator).to(dtype) for _ in range(count)]

    def call(self) -> Callable[[Tensor], Quantized]:
        """Quantizes a tensor along the axis that the GEMM contracts."""
        key = Key(torch.tensor([[1, 2]], device=self.device), 3, POINTS.index(self.point))
        turned = self.point in _TRANSPOSED
        if self.program == _KERNEL:
            options, dtype = table([self.use], self.device), self.dtype
            return lambda x: quantize(x.mT if turned else x, options, key, dtype)
        gemm, quantizer = self.gemm, self.use.quantizer

        def plain(x: Tensor) -> Quantized:
            own = (x.mT if turned else x).float()
            return quantizer(gemm.turn(own, gemm.basis(own, key)), key)

        return plain


def timed_kernels(recipe: Recipe, model: Deployed, device: str, machine: Machine | None) -> Iterator[TimedKernel]:
    """Every different kernel of the model's layers under a recipe; of a layer of experts one expert's.

    ``machine``: the hardware whose prediction stands beside; None: none.
    """
    if device == "cpu":
        cpu_loops.load()
    seen = set()
    for one in placed(recipe, model):
        shape = replace(one.shape, count=1)
        if (case := (one.recipe, shape.tokens, shape.inputs, shape.outputs)) in seen:
            continue
        seen.add(case)
        for name in GEMMS:
            yield from _of_gemm(one.recipe, shape, name, device, machine)


def _of_gemm(
    recipe: Recipe, shape: LayerShape, name: str, device: str, machine: Machine | None
) -> Iterator[TimedKernel]:
    sides = [_Operand(recipe, shape, f"{name}.{side}", device) for side in ("lhs", "rhs")]
    ready = []
    for side in sides:
        tensors, call = side.tensors(), side.call()
        ready.append(call(tensors[0]))
        rows, columns = ready[-1].values.shape[-2:]
        if isinstance(side.use.quantizer, BlockQuantizer) and not codes_from(recipe, side.point):
            took, said = seconds(call, tensors), _quantizing(side, machine)
            yield TimedKernel(shape.name, f"{side.point} quantized", rows, columns, side.program, took, said)
    a, b = ready
    gemm: Gemm = getattr(recipe, name)
    out = torch.float32 if name == "wgrad" or device == "cpu" else torch.bfloat16
    took = seconds(lambda x: gemm.contract(a._replace(values=x), b, dtype=out), [a.values])
    (m, k), n = a.values.shape[-2:], b.values.shape[-2]
    width = 16 if a.values.dtype == b.values.dtype == torch.bfloat16 else 32
    product = GemmCall(m, n, k, width, operands=width / 8, result=out.itemsize)
    said = machine.gemm(product) if machine else math.nan
    program = _KERNEL if takes(a.values) and gemm.accumulation is None else "torch"
    yield TimedKernel(shape.name, f"{name} product", m, n, program, took, said)


def _quantizing(side: _Operand, machine: Machine | None) -> float:
    """Seconds of the passes at a point in a portable kernel that writes decoded values."""
    if machine is None:
        return math.nan
    own = stages(side.recipe, side.shape, machine.profile, side.point, (Fusion.SEPARATE, True))
    work = sum((stage.work for stage in own if stage.what in ("maxima", "quantization")), Work())
    written = side.dtype.itemsize * side.shape.size(TENSORS[side.point])
    return machine.kernel(replace(work, written=float(written)), portable=True)


__all__ = ["TimedKernel", "timed_kernels"]
