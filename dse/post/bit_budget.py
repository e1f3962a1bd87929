"""Which format each layer gets under a budget of bits: the exact solution of a small integer program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dse.errors import CalibrationError
from dse.numerics.stored_bits import stored_bits
from dse.numerics.techniques.post import AutoQuantize, PostTraining
from dse.post.chosen_layers import LEFT_BITS, ChosenLayer
from dse.post.sensitivity import FormatScores

_UNIT = 1e6
"""The largest score in the program, whose solver takes differences below a millionth as none."""


def smallest_sum(scores: Sequence[Sequence[float]], bits: Sequence[Sequence[float]], budget: float) -> tuple[int, ...]:
    """The choice of one candidate per layer with the smallest sum of scores whose sum of bits is at most a budget.

    ``scores``, ``bits``: of each layer's candidates. Exact to within 1e-12 of the largest score and 1e-6 of the budget
    (a multiple-choice knapsack, by HiGHS's branch and bound). Raises ValueError where no choice has so few bits.

    >>> smallest_sum([[9, 0], [5, 0], [1, 0]], [[4, 16], [4, 16], [4, 16]], budget=24)
    (1, 0, 0)
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    if sum(map(min, bits)) > budget * (1 + 1e-9):
        raise ValueError(f"no choice has at most {budget:g} bits")
    kept = [_undominated(s, b) for s, b in zip(scores, bits, strict=True)]
    places = [(layer, number) for layer, numbers in enumerate(kept) for number in numbers]
    cost = np.array([scores[layer][number] for layer, number in places])
    size = np.array([bits[layer][number] for layer, number in places])
    one_each = np.array([[layer == row for layer, _ in places] for row in range(len(kept))], float)
    largest = np.abs(cost).max()
    found = milp(
        cost * (_UNIT / largest if largest > 0 else 1.0),
        integrality=np.ones(len(places)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(size[None] / budget, -np.inf, 1 + 1e-9)],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ValueError(f"the integer program has no solution: {found.message}")
    return tuple(number for (_, number), taken in zip(places, found.x, strict=True) if taken > 0.5)


def _undominated(scores: Sequence[float], bits: Sequence[float]) -> list[int]:
    """The candidates of which no other has as small a score and as few bits; the first of equals."""
    order = sorted(range(len(scores)), key=lambda i: (bits[i], scores[i], i))
    kept: list[int] = []
    for number in order:
        if not kept or scores[number] < scores[kept[-1]]:
            kept.append(number)
    return kept


def choose(
    layers: Mapping[str, ChosenLayer],
    scores: Mapping[str, FormatScores],
    left: int = 0,
    of: PostTraining | None = None,
) -> dict[str, int]:
    """The number of each layer's candidate. Layers of one search share its budget; those of other methods have one.

    ``left``: weights that the recipe leaves in 16 bits, which count in the budget of its own search, ``of``. Raises
    CalibrationError for a budget that the narrowest formats exceed.
    """
    chosen = dict.fromkeys(layers, 0)
    for search in dict.fromkeys(layer.method for layer in layers.values()):
        if isinstance(search, AutoQuantize):
            own = {name: layer for name, layer in layers.items() if layer.method == search}
            chosen |= _under(search, own, scores, left if search == of else 0)
    return chosen


def _under(
    search: AutoQuantize, layers: Mapping[str, ChosenLayer], scores: Mapping[str, FormatScores], left: int
) -> dict[str, int]:
    found = [scores[name] if len(layer.candidates) > 1 else _only(layer) for name, layer in layers.items()]
    known, bits = [own.losses for own in found], [own.bits for own in found]
    total = left + sum(layer.weights for layer in layers.values())
    budget = search.bits * total - LEFT_BITS * left
    try:
        return dict(zip(layers, smallest_sum(known, bits, budget), strict=True))
    except ValueError:
        least = (sum(map(min, bits)) + LEFT_BITS * left) / total
        raise CalibrationError(
            f"autoquantize.bits is {search.bits:g}, and the narrowest formats take {least:.4f} bits per weight here, "
            "scales included; set more bits"
        ) from None


def _only(layer: ChosenLayer) -> FormatScores:
    """Of a layer that is left as its numerics say, without blocks; a rotation may have padded its inputs."""
    (gemm, _), (outputs, inputs) = layer.candidates[0], layer.module.weight.flatten(1).shape
    columns = inputs + (0 if gemm.rotation is None else -inputs % gemm.rotation.size)
    return FormatScores((0.0,), (stored_bits(gemm.rhs, outputs, columns) * outputs * columns,))


__all__ = ["choose", "smallest_sum"]
