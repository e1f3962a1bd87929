"""Checker of a running pack: before some steps, a few layers' products are compared with exact ones.

It taps the layers' operands in one more forward and backward pass, as probes do, and changes no state and no bits of
the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dse.alarms import gemm_numbers
from dse.alarms.check_times import chosen, due
from dse.numerics.decomposed_gemms import operand_pairs
from dse.numerics.gemm import Gemm
from dse.numerics.linear_gemms import LinearContext, is_plain
from dse.numerics.matmul import product, wide
from dse.numerics.points import GEMMS
from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.decompositions import Kept
from dse.numerics.techniques.rotations import Hadamard
from dse.pack.layer import PackLayer
from dse.pack.segments import LayerOperands, Reference, Segment
from dse.probes.anatomy import dissect
from dse.probes.measures import plain
from dse.probes.tapping import show_operands

if TYPE_CHECKING:
    from dse.pack.step import TrainStep

CheckRow = list[Any]
"""[step, layer, GEMM, {name: value}]; names: see ``GemmChecker``."""

_OTHER_BITS = 1 << 40
"""Added to a seed for the expectation: random bits that no training draws."""
_Products = tuple[Tensor, Tensor | None, Tensor | None]


class GemmChecker:
    """Checks sampled layers of a pack; ``rows``: uid -> rows in the order of steps, layers and GEMMs.

    Of each GEMM: ``gain`` and ``error`` of what the training's own program computes against the exact product of the
    same operands; ``expected_gain`` and ``expected_error``, the same of the reference with other random bits;
    ``elements``: how many elements carry the product; ``zeros``: share of its elements that are exactly zero;
    ``repeats``: 1 where the next step's random bits give the same product, though the recipe draws some, or where the
    layer's clock stands at another step; ``vjp``: 1 where the product goes back through a forward quantizer;
    ``flushed`` and ``saturated`` [left, right]: shares of the operands' elements that become zero, and that are cut at
    the largest; ``spread`` [one]: the standard deviation of the gain that the operands' rounding errors explain.
    Members without a recipe at a layer have ``zeros`` of wgrad alone.
    """

    missing = "gemm_checks_missing_because"

    def __init__(self) -> None:
        self.rows: dict[str, list[CheckRow]] = {}

    def __call__(self, train_step: TrainStep, step: int) -> None:
        """Checks the active members before ``step``, where a check is due."""
        steps = due(train_step.steps)
        if step in steps:
            self._check(train_step, step, steps.index(step))

    def state_dict(self) -> dict[str, object]:
        """Plain data for a checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, *states: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``; several states are those of packs whose members are now together."""
        self.rows = {uid: list(rows) for saved in states for uid, rows in saved.get("rows", {}).items()}

    def _check(self, train_step: TrainStep, step: int, number: int) -> None:
        pack, alive = train_step.pack, train_step.alive.tolist()
        found: list[dict[tuple[str, str], dict[str, object]]] = [{} for _ in pack.trials]
        wanted = {name: pack.layers[name] for name in chosen(list(pack.layers), number)}

        def tap(name: str, layer: PackLayer, x: Tensor, w: Tensor, g: Tensor, needs: tuple[bool, bool]) -> None:
            stale = (layer.clock[:, 1] != step).double()
            for member, own in enumerate(_numbers(layer, (x, w, g), needs, stale)):
                found[member] |= {(name, gemm): values for gemm, values in own.items()}

        show_operands(train_step, wanted, tap)
        once = {trial.uid: i for i, trial in enumerate(pack.trials)}  # a trial may be in a pack twice
        for uid, i in once.items():
            rows = self.rows.setdefault(uid, [])
            if alive[i]:
                places = [(layer, gemm) for layer in wanted for gemm in GEMMS if (layer, gemm) in found[i]]
                rows += [[step, layer, gemm, found[i][layer, gemm]] for layer, gemm in places]


def _numbers(
    layer: PackLayer, operands: tuple[Tensor, Tensor, Tensor], needs: tuple[bool, bool], stale: Tensor
) -> list[dict[str, dict[str, object]]]:
    """Each member's numbers by GEMM. ``stale`` [E]: 1 where the layer's clock stands at another step."""
    x, w, g = operands
    exact = _exact(operands, needs)
    own = _computed(layer, layer.segments, operands, needs, 0)
    later = _computed(layer, layer.segments, operands, needs, 1)
    found: list[dict[str, dict[str, object]]] = [{} for _ in range(len(w))]
    if own[2] is not None:
        for i, share in enumerate(gemm_numbers.zeros(own[2]).tolist()):
            found[i]["wgrad"] = {"zeros": plain(share)}
    for part in layer.references():
        if is_plain(part.recipe):
            continue
        some = part.members
        few = (x[some], w[some], g[some])
        expected = _reference(layer, part, few, needs)
        mine = [None if e is None else e[some] for e in exact]
        operand_shares = _shares(part.recipe, few, layer.context(part), needs, mine)
        for gemm, q, again, p, e in zip(GEMMS, own, later, expected, exact, strict=True):
            if q is None or again is None or p is None or e is None:
                continue
            q, e = wide(q[some]), e[some]
            values = {
                "gain": gemm_numbers.along(q, e),
                "error": gemm_numbers.error(q, e),
                "expected_gain": gemm_numbers.along(p, e),
                "expected_error": gemm_numbers.error(p, e),
                "elements": gemm_numbers.effective(e),
                "zeros": gemm_numbers.zeros(q),
            }
            if draws(getattr(part.recipe, gemm)):
                values["repeats"] = gemm_numbers.same(q, wide(again[some])).maximum(stale[some])
            if _through(part.recipe, gemm):
                values["vjp"] = torch.ones_like(values["gain"])
            table = torch.stack(list(values.values())).mT.tolist()
            for i, numbers in enumerate(table):
                row: dict[str, object] = {n: plain(v) for n, v in zip(values, numbers, strict=True)}
                row |= {n: [plain(side[i]) for side in sides] for n, sides in operand_shares.get(gemm, {}).items()}
                found[part.start + i][gemm] = row
    return found


def _through(recipe: Recipe, gemm: str) -> bool:
    """Whether a gradient goes back through a forward quantizer with a derivative of its own."""
    quantizer = {"dgrad": recipe.fprop.lhs, "wgrad": recipe.fprop.rhs}.get(gemm)
    return quantizer is not None and not quantizer.straight_through


def draws(gemm: Gemm) -> bool:
    """Whether a GEMM's product depends on random bits."""
    turned = isinstance(gemm.rotation, Hadamard) and gemm.rotation.signs == "random"
    return turned or gemm.lhs.random_bits > 0 or gemm.rhs.random_bits > 0


def _exact(operands: tuple[Tensor, Tensor, Tensor], needs: tuple[bool, bool]) -> _Products:
    x, w, g = operands
    dx = product(g, w.mT) if needs[0] else None
    return product(x, w), dx, product(g.mT, x.mT) if needs[1] else None


def _computed(
    layer: PackLayer,
    segments: tuple[Segment, ...],
    operands: tuple[Tensor, Tensor, Tensor],
    needs: tuple[bool, bool],
    later: int,
) -> _Products:
    """The three products by the program that trains the layer, with the random bits of ``later`` steps after."""
    x, w, g = operands
    x = layer.entering(x)
    parts = []
    for segment in segments:
        context = _shifted(layer.context(segment), 0, later)
        y, held = segment.forward(LayerOperands(x, w).of(segment.members), context, needs)
        parts.append((y, *segment.backward(held, g[segment.members].to(y.dtype), context, needs)))
    ys, dxs, dws = ([p for p in column if p is not None] for column in zip(*parts, strict=True))
    return torch.cat(ys), torch.cat(dxs) if dxs else None, torch.cat(dws) if dws else None


def _reference(
    layer: PackLayer, part: Reference, operands: tuple[Tensor, Tensor, Tensor], needs: tuple[bool, bool]
) -> _Products:
    """The three products of a run of members as the reference says, with random bits of its own."""
    x, w, g = operands
    context = _shifted(layer.context(part), _OTHER_BITS, 0)
    y, held = part.forward(LayerOperands(x, w), context, needs)
    return (y, *part.backward(held, g, context, needs))


def _shifted(context: LinearContext, seed: int, step: int) -> LinearContext:
    """The context with other random bits."""
    shift = torch.tensor([seed, step], device="cpu").to(context.key.clock.device)
    return context._replace(key=replace(context.key, clock=context.key.clock + shift))


def _shares(
    recipe: Recipe,
    operands: tuple[Tensor, Tensor, Tensor],
    context: LinearContext,
    needs: tuple[bool, bool],
    exact: Sequence[Tensor | None],
) -> dict[str, dict[str, list[list[float]]]]:
    """By GEMM, the shares of each operand's elements that become zero and that are cut, for [left, right]: [2][E].

    Also the ``spread`` of the gain, [1][E].
    """
    pairs = operand_pairs(recipe, *operands, Kept(context.parts, context.key))
    found = {}
    for number, gemm_name in enumerate(GEMMS):
        if not (True, *needs)[number]:
            continue
        gemm: Gemm = getattr(recipe, gemm_name)
        key = context.key.at(2 * number)
        basis = gemm.basis(pairs[gemm_name][0], key)
        turned = [gemm.turn(operand, basis) for operand in pairs[gemm_name]]
        sides = [
            _operand_shares(quantizer, operand, key.at(2 * number + side))
            for side, (quantizer, operand) in enumerate(zip((gemm.lhs, gemm.rhs), turned, strict=True))
        ]
        found[gemm_name] = {name: [side[0][name] for side in sides] for name in ("flushed", "saturated")}
        e = exact[number]
        if e is not None and turned[0].shape[-2] == e.shape[-2] and turned[1].shape[-2] == e.shape[-1]:
            spread = gemm_numbers.gain_spread((sides[0][1], sides[1][1]), (turned[0], turned[1]), e)
            found[gemm_name]["spread"] = [spread.tolist()]
    return found


def _operand_shares(quantizer: Quantizer, x: Tensor, key: Any) -> tuple[dict[str, list[float]], Tensor]:
    """The shares, and the rounding errors [E, R, K]."""
    anatomy = dissect(quantizer, x, key)
    rounded = anatomy.quantized.dequantize()
    flushed = ((rounded == 0) & (x != 0)).flatten(1).double().mean(-1)
    cut = anatomy.saturated
    return {
        "flushed": flushed.tolist(),
        "saturated": [0.0] * len(x) if cut is None else cut.flatten(1).double().mean(-1).tolist(),
    }, rounded - x
