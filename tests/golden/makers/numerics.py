"""Goldens of the mathematics: recipes as data, random streams, costs."""

from __future__ import annotations

from typing import Any


def recipes() -> dict[str, Any]:
    """Every recipe as plain data: what identities are made of."""
    from dse.numerics.registry import to_data
    from dse.recipes import RECIPES

    return {name: to_data(recipe) for name, recipe in RECIPES.items()}


def random_streams() -> dict[str, Any]:
    """The first random bits of several keys: (seed, step, layer, point, draw, bits)."""
    from dse.numerics.random import key

    cases = [
        (seed, step, layer, point, draw, n)
        for seed, step in ((0, 0), (7, 3), (2**40 + 1, 10**6))
        for layer, point, draw in ((0, 0, 0), (5, 3, 1), (2, 64, 0))
        for n in (1, 8, 11, 16, 32)
    ]
    return {
        " ".join(map(str, case)): key(*case[:4]).fork(case[4]).bits(3, 19, case[5]).flatten()[:24].tolist()
        for case in cases
    }


def costs() -> dict[str, Any]:
    """Every recipe's overhead and time against BF16 on the shapes of every model and every hardware profile."""
    from dse.cost.hardware import HARDWARE
    from dse.cost.overhead import excess, overhead, read_time, relative_time
    from dse.cost.shapes import MODELS
    from dse.recipes import RECIPES

    return {
        f"{name} {model} {profile}": [
            round(measure(recipe, layers, hardware), 9) for measure in (overhead, relative_time, excess, read_time)
        ]
        for name, recipe in RECIPES.items()
        for model, layers in MODELS.items()
        for profile, hardware in HARDWARE.items()
    }
