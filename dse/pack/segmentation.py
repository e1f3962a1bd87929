"""The division of a layer's members into segments: contiguous runs, each of one backend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch

from dse import fused
from dse.fused import GradientTable, KeptScale, RecipeTable, RuleStep, Table, Use
from dse.numerics.points import Point
from dse.numerics.quantizer import Identity, Quantizer
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.weights import WeightRule
from dse.pack.backend import TURN_BACK, Backend, backend, uses, watched_use
from dse.pack.decomposed_segment import DecomposedSegment
from dse.pack.derivatives import Derivative, KernelDerivative, ReferenceDerivative, TurnedBack
from dse.pack.fused_quantizer import by_kernels
from dse.pack.operand_programs import KernelPoint, PointProgram, ReferencePoint, RulePoint, TwoOperands, repeats
from dse.pack.point_segment import PointSegment
from dse.pack.segments import Reference, Segment
from dse.recipes import RECIPES

PLAIN = RECIPES["fp32"]
"""The recipe of a member at a layer that its own recipe, or the task, does not quantize."""

_IDENTITY = Identity()
_TABLES, _BACKENDS = 256, 4096
"""Tables of operands (on the device) and backends of recipes that are kept: equal layers share theirs."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}


def partition(
    recipes: Sequence[Recipe], owners: Sequence[int | None], device: torch.device, use_kernels: bool
) -> tuple[Segment, ...]:
    """Segments of a layer whose members compute under ``recipes``; ``owners`` tell apart members that keep state."""

    def kind(i: int) -> Any:
        found = known_backend(_Same((recipes[i],)), use_kernels)
        return found, owners[i], recipes[i] if found is None else None

    segments: list[Segment] = []
    for (found, _, recipe), run in groupby(range(len(recipes)), kind):
        members = list(run)
        start, stop = members[0], members[-1] + 1
        if found is None:
            segments.append(Reference(start, stop, recipe))
        else:
            segments.append(_kernel(found, [recipes[i] for i in members], start, device))
    return tuple(segments)


def _kernel(found: Backend, recipes: Sequence[Recipe], start: int, device: torch.device) -> Segment:
    """The segment of members ``start`` and following under ``recipes``, which have one backend."""
    points = [list(point) for point in zip(*map(uses, recipes), strict=True)]
    kept = [own.kept for own in found.carried]
    programs = [
        _program(Point(i), found.programs[i], own, device, kept[i], found.rule if i == Point.FPROP_RHS else None)
        for i, own in enumerate(points)
    ]
    dtypes = [_DTYPES[own.dtype] for own in found.carried]

    def two(rows: Point, columns: Point) -> TwoOperands:
        same = all(repeats(use) for use in (*points[rows], *points[columns]))
        return TwoOperands(programs[rows], programs[columns], (dtypes[rows], dtypes[columns]), same)

    g = two(Point.DGRAD_LHS, Point.WGRAD_LHS)
    watched: PointProgram | None = None
    if found.watched is not None:
        operands = [watched_use(recipe) for recipe in recipes]
        watched = _program(Point.DGRAD_LHS, found.watched, operands, device, kept[Point.DGRAD_LHS])
        if watched.matches(g.rows) and not any(use.quantizer.remembers for use in operands):
            watched = g.rows
    segment = PointSegment(
        start,
        start + len(recipes),
        two(Point.FPROP_LHS, Point.WGRAD_RHS),
        two(Point.FPROP_RHS, Point.DGRAD_RHS),
        g,
        found.source == "forward",
        found.accumulations,
        (_derivative(Point.FPROP_LHS, found, points, device), _derivative(Point.FPROP_RHS, found, points, device)),
        watched,
    )
    return segment if found.split is None else DecomposedSegment(segment.start, segment.stop, segment, found.split)


def _derivative(
    point: Point, found: Backend, points: Sequence[Sequence[Use]], device: torch.device
) -> Derivative | None:
    own = found.derivatives[point]
    if own is None:
        return None
    turned = found.source == "forward"
    if own.program == TURN_BACK:
        rows = _table(tuple(_Same((_IDENTITY, use.rotation)) for use in points[point]), str(device))
        assert isinstance(rows, RecipeTable)
        return TurnedBack(rows)
    if isinstance(own.program, str):
        return KernelDerivative(point, _gradient_table(tuple(map(_Same, points[point])), str(device)), turned)
    return ReferenceDerivative(point, own.program.quantizer, own.rotation, turned)


def _program(
    point: Point,
    name: str | Use,
    operands: Sequence[Use],
    device: torch.device,
    kept: KeptScale | None,
    rule: Any = None,
) -> PointProgram:
    if rule is not None and isinstance(name, str) and not fused.uncovered_rule(rule, operands[0].quantizer):
        return RulePoint(point, known_rule_step(rule, operands[0].quantizer, len(operands), str(device)))
    if rule is not None:
        own = (
            operands[0]
            if not isinstance(name, str)
            else operands[0]._replace(quantizer=by_kernels(operands[0].quantizer))
        )
        return ReferencePoint(point, own, rule)
    if not isinstance(name, str):
        return ReferencePoint(point, operands[0])
    return KernelPoint(point, _table(tuple(map(_Same, operands)), str(device), kept))


class _Same(tuple[Any, ...]):
    """Objects, such as a use's quantizer and rotation, of which no equal ones are the same: quick to compare."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(map(id, self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and all(a is b for a, b in zip(self, other, strict=True))


@lru_cache(_BACKENDS)
def known_backend(recipe: _Same, use_kernels: bool) -> Backend | None:
    """The backend of a recipe, found once for all layers."""
    return backend(recipe[0], use_kernels)


@lru_cache(_TABLES)
def _table(operands: tuple[_Same, ...], device: str, kept: KeptScale | None = None) -> Table:
    return fused.table([Use(*use) for use in operands], device, kept)


@lru_cache(_TABLES)
def known_rule_step(rule: WeightRule, quantizer: Quantizer, members: int, device: str) -> RuleStep:
    """The kernels of a weight rule, whose tables equal layers share."""
    return fused.rule_step(rule, quantizer, members, device)


@lru_cache(_TABLES)
def _gradient_table(operands: tuple[_Same, ...], device: str) -> GradientTable:
    return fused.gradient_table([Use(*use) for use in operands], device)
