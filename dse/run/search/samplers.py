"""Optuna's samplers, by their names in the sweep language."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from dse.sweep import Search

GENERATION = "NSGAIISampler:generation"
"""Where Optuna's NSGA-II keeps a trial's generation: a rebuilt study needs it."""


def sampler(search: Search, observed: int) -> BaseSampler:
    """A fresh sampler for the configurations after the first ``observed``. Its seed depends on their number: with the
    same seed again it would repeat its draws."""
    digest = sha256(f"{search.seed}/{observed}".encode()).digest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant_liar was experimental in Optuna 4
        return SAMPLERS[search.method](search, int.from_bytes(digest[:4], "big"))


def first_batch(search: Search) -> int:
    """How many configurations are asked for at once at first: they need no results."""
    return max(search.batch or 1, search.startup or 0, search.population or 0)


def _tpe(search: Search, seed: int) -> BaseSampler:
    """``constant_liar`` keeps the configurations of one batch apart."""
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=search.startup or 0, constant_liar=True, seed=seed)


def _nsga2(search: Search, seed: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=search.population or 50, seed=seed)


SAMPLERS: dict[str, Callable[[Search, int], BaseSampler]] = {"tpe": _tpe, "nsga2": _nsga2}
