"""Which programs compute a recipe's linear layers: what members of one kernel segment have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dse import fused
from dse.fused import Carried, Use
from dse.nn.attention import as_linear
from dse.numerics.attention import PRODUCTS
from dse.numerics.points import POINTS, Point
from dse.numerics.quantizer import Identity
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.accumulations import Accumulation
from dse.numerics.techniques.rotations import Rotation
from dse.numerics.techniques.schedules import Switch
from dse.numerics.techniques.weights import WeightRule
from dse.pack.fused_quantizer import decomposition_by_kernels


class OwnDerivative(NamedTuple):
    """What the gradient of X or of W goes back through.

    ``program``: 'turn back', the kernel of inverse rotations; a ``fused.gradient_structure``; or the forward operand
    whose vector-Jacobian product plain torch takes. ``rotation``: of the forward GEMM, where members have to agree in
    it.
    """

    program: str | Use
    rotation: Rotation | None


TURN_BACK = "turn back"


@dataclass(frozen=True)
class Backend:
    """The programs of a recipe; members of equal ones are computed together, whatever their other options.

    ``programs``: of the six points in their order, the name of a kernel, or the operand that plain torch quantizes;
    ``carried``: of the six points, the type of the operand's values, and the scale that is kept out of them;
    ``source``: what the backward GEMMs quantize, 'original' or 'forward';
    ``rule``: the weight rule that quantizes W in the forward GEMM; ``accumulations``: of the three GEMMs;
    ``derivatives``: of X and of W; ``watched``: the program of dgrad.lhs without its rotation, whose noise a precision
    schedule looks at; ``split``: the recipe whose decomposition splits the products, None where they are whole.
    """

    programs: tuple[str | Use, ...]
    carried: tuple[Carried, ...]
    source: str
    rule: WeightRule | None = None
    accumulations: tuple[Accumulation | None, ...] = (None, None, None)
    derivatives: tuple[OwnDerivative | None, OwnDerivative | None] = (None, None)
    watched: str | Use | None = None
    split: Recipe | None = None


def backend(recipe: Recipe, use_kernels: bool) -> Backend | None:
    """The programs of a recipe, all of them in plain torch without kernels; None where nothing is quantized."""
    gemms = (recipe.fprop, recipe.dgrad, recipe.wgrad)
    if all(isinstance(recipe.quantizer(p), Identity) for p in POINTS) and not any(g.accumulation for g in gemms):
        return None
    operands = uses(recipe)
    rule = recipe.weights if recipe.weights is not None and recipe.weights.quantizes else None
    watches = recipe.schedule is not None and recipe.schedule.watches
    return Backend(
        tuple(_program(use, use_kernels) for use in operands),
        carried(recipe) if use_kernels else (Carried("float32"),) * len(operands),
        recipe.backward_source,
        rule,
        tuple(gemm.accumulation for gemm in gemms),
        (_derivative(recipe, operands[0], use_kernels), _derivative(recipe, operands[1], use_kernels)),
        _program(watched_use(recipe), use_kernels) if watches else None,
        None if recipe.decomposition is None else decomposition_by_kernels(recipe) if use_kernels else recipe,
    )


def carried(recipe: Recipe) -> tuple[Carried, ...]:
    """How the operands of a recipe's six points reach their products by kernels.

    Models of accumulation say how the products of decoded values are added, and weight rules choose among these: there
    scales stay in the values.
    """
    operands, found = uses(recipe), list[Carried]()
    rule = recipe.weights is not None and recipe.weights.quantizes
    for number, gemm in enumerate((recipe.fprop, recipe.dgrad, recipe.wgrad)):
        plain = gemm.accumulation is None
        keeps = plain, plain and not (rule and number == 0)
        found += fused.carried(operands[2 * number], operands[2 * number + 1], keeps)
    return tuple(found)


def watched_use(recipe: Recipe) -> Use:
    """The operand whose noise precision schedules look at: G as dgrad quantizes it, not rotated."""
    return Use(recipe.dgrad.lhs, None)


def _program(use: Use, use_kernels: bool) -> str | Use:
    return (use_kernels and fused.structure(use)) or use


def uses(recipe: Recipe) -> list[Use]:
    """The recipe's six quantizers with their GEMM's rotation."""
    gemms = (recipe.fprop, recipe.fprop, recipe.dgrad, recipe.dgrad, recipe.wgrad, recipe.wgrad)
    return [Use(recipe.quantizer(p), g.rotation) for p, g in zip(POINTS, gemms, strict=True)]


class Uncovered(NamedTuple):
    """A part of a recipe that plain torch computes on a GPU, and why.

    ``part``: a point such as 'fprop.lhs', 'fprop.lhs derivative', 'fprop accumulation', 'watched gradient' or
    'decomposition Mean'.
    """

    part: str
    why: str

    def __str__(self) -> str:
        return f"{self.part}: {self.why}"


def uncovered(recipe: Recipe) -> tuple[Uncovered, ...]:
    """What kernels leave to plain torch; empty where they compute all of a recipe's linears and attention."""
    found: list[Uncovered] = []
    for own in recipe.numerics:
        found += _uncovered(own)
        for name in PRODUCTS if own.attention is not None else ():
            product = as_linear(getattr(own.attention, name))
            found += [Uncovered(f"attention.{name} {part}", why) for part, why in _uncovered(product)]
    if isinstance(recipe.schedule, Switch):
        found += [Uncovered(f"schedule.to {part}", why) for part, why in _uncovered(as_linear(recipe.schedule.to))]
    return tuple(dict.fromkeys(found))


def _uncovered(recipe: Recipe) -> Iterator[Uncovered]:
    operands = uses(recipe)
    for point, use in zip(Point, operands, strict=True):
        if reason := fused.uncovered(use):
            yield Uncovered(point.path, reason)
    for gemm in dict.fromkeys(point.gemm for point in Point):
        model = getattr(recipe, gemm).accumulation
        if model is not None and type(model).contract is Accumulation.contract:
            yield Uncovered(f"{gemm} accumulation", type(model).__name__)
    for point in (Point.FPROP_LHS, Point.FPROP_RHS):
        found = _derivative(recipe, operands[point], True)
        if found is not None and not isinstance(found.program, str):
            straight = found.program.quantizer.straight_through
            turned = f"the inverse rotation: {fused.unchecked('derivatives')}"
            why = turned if straight else fused.uncovered_gradient(found.program)
            yield Uncovered(f"{point.path} derivative", why)
    if recipe.decomposition is not None:
        part = f"decomposition {type(recipe.decomposition).__name__}"
        yield Uncovered(part, "operands are split and terms added in plain torch")
    if recipe.schedule is not None and recipe.schedule.watches and (reason := fused.uncovered(watched_use(recipe))):
        yield Uncovered("watched gradient", reason)


def _derivative(recipe: Recipe, use: Use, use_kernels: bool) -> OwnDerivative | None:
    """The derivative of the forward operand of X or of W; None where it is the identity."""
    turned = recipe.backward_source == "forward" and use.rotation is not None
    if use.quantizer.straight_through and not turned:
        return None
    plain = use.quantizer.straight_through and not fused.unchecked("derivatives")
    if use_kernels and plain and fused.structure(Use(Identity(), use.rotation)) == "core":
        return OwnDerivative(TURN_BACK, use.rotation)
    if use_kernels and not use.quantizer.straight_through and (structure := fused.gradient_structure(use)):
        return OwnDerivative(structure, None)
    return OwnDerivative(use, use.rotation)
