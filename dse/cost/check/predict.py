"""What the time model says about a measured point."""

from __future__ import annotations

from dataclasses import replace

from dse.cost.check.measured import GemmRate, KernelTime, LayersTime, MeasuredPoint, Numerics, RateRatio, TrainingRate
from dse.cost.models import deployed
from dse.cost.profiles import profile
from dse.cost.roofline.constants import Constants
from dse.cost.roofline.layer_seconds import Assumptions, gemm_seconds, layer_time
from dse.cost.roofline.stages import Fusion, stages
from dse.cost.roofline.step_seconds import step_time
from dse.cost.roofline.times import GemmCall, Machine
from dse.cost.roofline.work import Work
from dse.cost.shapes import LayerShape
from dse.numerics.recipe import Recipe, override
from dse.recipes import RECIPES
from dse.recipes.bf16 import BF16

UNITS = {"layers": "ms", "kernel": "us", "gemm": "TFLOP/s", "training": "tokens/s", "ratio": "times"}
"""Kind of a point -> the unit of its value."""


def numerics(own: Numerics) -> Recipe:
    """The recipe that a point is about."""
    recipe = RECIPES[own.base]
    for path, value in own.set.items():
        recipe = override(recipe, path, value)
    for name, other in own.gemms.items():
        recipe = replace(recipe, **{name: getattr(numerics(other), name)})
    return recipe


def predicted(point: MeasuredPoint, constants: Constants) -> float:
    """The model's value for a point, in the point's unit (``UNITS``)."""
    machine = Machine(profile(point.hardware), constants)
    match point:
        case LayersTime():
            return 1e3 * _layers(point, machine)
        case KernelTime():
            return 1e6 * _kernel(point, machine)
        case GemmRate():
            m, k, n = point.shape
            product = GemmCall(m, n, k, point.width, operands=point.width / 8)
            return product.flop / machine.gemm(product) / 1e12
        case TrainingRate():
            return _training(point, point.numerics, machine)
        case RateRatio():
            return _training(point, point.numerics, machine) / _training(point, point.against, machine)


def seconds(point: MeasuredPoint, value: float) -> float:
    """A point's value as the time of its work, so that all points can be ranked together; 1 token,
    1 TFLOP."""
    return {"layers": 1e-3 * value, "kernel": 1e-6 * value}.get(point.kind, 1 / value)


def _layers(point: LayersTime, machine: Machine) -> float:
    recipe, total = numerics(point.numerics), 0.0
    for m, k, n in point.shapes:
        shape = LayerShape("layer", m, k, n)
        for name in point.gemms:
            if point.quantized_before:
                total += gemm_seconds(recipe, name, shape, machine)
            else:
                total += layer_time(*_alone(recipe, name, shape), machine).gemms["fprop"]
    return total


def _alone(recipe: Recipe, name: str, shape: LayerShape) -> tuple[Recipe, LayerShape]:
    """One GEMM as the forward GEMM of a layer, so that it shares nothing with the others."""
    m, k, n = shape.tokens, shape.inputs, shape.outputs
    sides = {"fprop": (m, k, n), "dgrad": (m, n, k), "wgrad": (n, m, k)}[name]
    own = replace(BF16, fprop=getattr(recipe, name))
    return own, LayerShape("layer", *sides)


def _kernel(point: KernelTime, machine: Machine) -> float:
    recipe, shape = numerics(point.numerics), LayerShape("layer", *point.shape)
    work = Work()
    for number, name in enumerate(point.points):
        found = stages(recipe, shape, machine.profile, name, (Fusion.SEPARATE, False))
        own = sum((stage.work for stage in found if stage.what == point.stage), Work())
        if number:  # one read and one launch serve all
            own = replace(own, read=0.0, reread=0.0, launches=0.0)
        work += own
    return machine.kernel(replace(work, read=work.read + work.reread, reread=0.0), point.portable)


def _training(point: TrainingRate | RateRatio, own: Numerics, machine: Machine) -> float:
    model = deployed(point.model)
    if point.tokens is not None:
        model = model.model_copy(update={"tokens": point.tokens})
    return step_time(numerics(own), model, machine, Assumptions(point.fusion)).tokens_per_second


__all__ = ["UNITS", "numerics", "predicted", "seconds"]
