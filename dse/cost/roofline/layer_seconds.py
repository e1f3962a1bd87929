"""Time of one linear layer: its three GEMMs and what quantizes their operands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from dse.cost.roofline.codes import code_bytes
from dse.cost.roofline.stages import Fusion, Stage, stages
from dse.cost.roofline.times import GemmCall, Machine
from dse.cost.roofline.units import Rate, gemm_rate
from dse.cost.roofline.work import Work
from dse.cost.shapes import LayerShape
from dse.numerics.block import BlockQuantizer
from dse.numerics.recipe import GEMMS, POINTS, Recipe

PARTS = ("GEMMs", "maxima", "quantization", "gradients", "rules")
"""What a linear's time goes to; 'maxima': tensor-wide amax before quantization; 'gradients': through quantizers."""


@dataclass(frozen=True)
class Assumptions:
    """What a time is for, beside recipe and shape.

    ``fusion``: how passes are joined; ``imagined``: as if the matrix unit read every format that has its width;
    ``portable``: quantization kernels are written in Triton.
    """

    fusion: Fusion = Fusion.SEPARATE
    imagined: bool = False
    portable: bool = False


OPTIMISTIC = Assumptions(Fusion.FUSED, imagined=True)
"""Everything that can be fused is, and the hardware has a unit for the recipe's operands."""
AS_MEASURED = Assumptions(Fusion.SEPARATE)
"""Every pass is a kernel, and products that the hardware has no unit for run in BF16."""


@dataclass(frozen=True)
class LayerTime:
    """Seconds of one call of a layer, forward and backward, by GEMM and by part; what hardware lacks for it."""

    gemms: Mapping[str, float]
    parts: Mapping[str, float]
    missing: tuple[str, ...] = ()
    work: Work = field(default_factory=Work)

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())


def layer_time(
    recipe: Recipe, shape: LayerShape, machine: Machine, setting: Assumptions = AS_MEASURED, experts: int = 1
) -> LayerTime:
    """Time of a layer's three GEMMs with quantization, once; ``shape.count`` is not looked at, nor is a schedule.

    ``experts``: so many matrices of this shape in one grouped call. In each GEMM
    T = max(T_gemm, T_hidden) + T_serial (after arXiv 2610.00053): operations in another kernel's epilogue run beside
    its products, passes through memory come on top.
    """
    gemms: dict[str, float] = {}
    parts = dict.fromkeys(PARTS, 0.0)
    missing: list[str] = []
    done = Work()
    for name in GEMMS:
        padded = _padded(shape, experts)
        rate = gemm_rate(getattr(recipe, name), name, padded, machine.profile, setting.imagined)
        missing += [rate.missing] if rate.missing and rate.missing not in missing else []
        found = [
            Stage(stage.what, stage.work * experts, stage.hidden)
            for point in POINTS
            if point.startswith(name)
            for stage in stages(recipe, padded, machine.profile, point, (setting.fusion, rate.emulated))
        ]
        own = _one(_product(recipe, name, padded, rate, experts), found, machine, setting)
        parts |= {part: parts[part] + seconds for part, seconds in own.items()}
        gemms[name] = sum(own.values())
        done = sum((stage.work for stage in found), done)
    return LayerTime(gemms, parts, tuple(missing), done)


def gemm_seconds(recipe: Recipe, name: str, shape: LayerShape, machine: Machine) -> float:
    """Seconds of one GEMM of a layer, its operands quantized before."""
    rate = gemm_rate(getattr(recipe, name), name, shape, machine.profile)
    return machine.gemm(_product(recipe, name, shape, rate, 1))


def _one(product: GemmCall, found: list[Stage], machine: Machine, setting: Assumptions) -> dict[str, float]:
    """Seconds of a GEMM and its operands' stages, by part."""
    seconds, hidden = defaultdict[str, float](float), defaultdict[str, float](float)
    seconds["GEMMs"] = machine.gemm(product)
    for stage in found:
        if stage.hidden:
            hidden[stage.what] += machine.operate(stage.work, setting.portable)
            seconds[stage.what] += stage.work.syncs * machine.profile.sync.value
        else:
            seconds[stage.what] += machine.kernel(stage.work, setting.portable)
    total = sum(hidden.values())
    beyond = max(total - seconds["GEMMs"], 0.0)
    for what, own in hidden.items():
        seconds[what] += beyond * own / total if beyond else 0.0
    return dict(seconds)


def _product(recipe: Recipe, name: str, shape: LayerShape, rate: Rate, experts: int) -> GemmCall:
    m, k, n = shape.tokens, shape.inputs, shape.outputs
    rows, columns, summed = {"fprop": (m, n, k), "dgrad": (m, k, n), "wgrad": (n, k, m)}[name]
    gemm = getattr(recipe, name)
    sizes = [_bytes(q, rate) for q in (gemm.lhs, gemm.rhs)]
    return GemmCall(rows, columns, summed, rate.width, experts, max(sizes), 4.0 if name == "wgrad" else 2.0)


def _bytes(quantizer: object, rate: Rate) -> float:
    """Bytes per element that a GEMM reads of an operand."""
    if isinstance(quantizer, BlockQuantizer) and not rate.emulated and rate.width <= 8:
        return code_bytes(quantizer, 1, 1 / quantizer.block if quantizer.block else 0)
    return 4.0 if rate.width == 32 else 2.0


def _padded(shape: LayerShape, experts: int) -> LayerShape:
    """The rows of experts are filled up to whole blocks of 32, which grouped kernels do."""
    if experts == 1:
        return shape
    return LayerShape(shape.name, -(-shape.tokens // 32) * 32, shape.inputs, shape.outputs, shape.count)


__all__ = ["AS_MEASURED", "OPTIMISTIC", "PARTS", "Assumptions", "LayerTime", "gemm_seconds", "layer_time"]
