"""Times packs of nvfp4 on a GPU in which plain torch computes one quantized operand, against all by kernels.

What it prints is the table of ``dse/pack/slowdown.py``: how many times as long a step takes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from unittest import mock

import torch

from dse.bench.models import SUBJECTS
from dse.bench.timed_packs import Running, timed, trials
from dse.numerics.points import Point
from dse.numerics.recipe import Recipe, override
from dse.pack import segmentation
from dse.pack.backend import Backend, OwnDerivative, backend, uses
from dse.trial import Trial

Change = Callable[[Recipe, Backend], Backend | None]


def _point(point: Point) -> Change:
    def change(recipe: Recipe, found: Backend) -> Backend:
        programs = list(found.programs)
        programs[point] = uses(recipe)[point]
        return replace(found, programs=tuple(programs))

    return change


def _derivative(point: Point) -> Change:
    def change(recipe: Recipe, found: Backend) -> Backend:
        use = uses(recipe)[point]
        smooth = replace(use.quantizer, slope=replace(use.quantizer.slope, outside="zero"))  # type: ignore[type-var, attr-defined]
        own: list[OwnDerivative | None] = [None, None]
        own[point] = OwnDerivative(use._replace(quantizer=smooth), None)
        return replace(found, derivatives=(own[0], own[1]))

    return change


CHANGES: dict[str, Change] = {point.path: _point(point) for point in Point}
CHANGES |= {"all": lambda recipe, found: None}
CHANGES |= {f"{p.path} derivative": _derivative(p) for p in (Point.FPROP_LHS, Point.FPROP_RHS)}


GRADIENTS: dict[str, dict[str, object]] = {
    "fprop.lhs derivative of scales": {"fprop.lhs.scale_gradient": "full"},
    "fprop.rhs derivative of scales": {"fprop.rhs.scale_gradient": "full"},
    "diagonal, both": {"forward.scale_gradient": "diagonal"},
    "full, both": {"forward.scale_gradient": "full"},
    "soft_soft, full, both": {"forward.statistic": "soft_soft", "forward.scale_gradient": "full"},
}
"""Recipes whose gradients through scales are plain torch: options that nvfp4 gets."""


@contextmanager
def changed(change: Change) -> Iterator[None]:
    """Inside, segments have the programs that ``change`` makes of their own."""

    def other(recipe: Recipe, use_kernels: bool) -> Backend | None:
        found = backend(recipe, use_kernels)
        return None if found is None else change(recipe, found)

    segmentation.known_backend.cache_clear()
    try:
        with mock.patch.object(segmentation, "backend", other):
            yield
    finally:
        segmentation.known_backend.cache_clear()


def _with(trial: Trial, options: Mapping[str, object]) -> Trial:
    recipe = trial.recipe
    for path, value in options.items():
        recipe = override(recipe, path, value)
    return replace(trial, recipe=recipe)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gpt128", help="one of the pack benchmark's (gpt128)")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="the model's size for a smoke test")
    parser.add_argument("--only", nargs="*", default=[*CHANGES, *GRADIENTS], choices=[*CHANGES, *GRADIENTS])
    args = parser.parse_args(arguments)
    members = trials(SUBJECTS[args.model](args.quick), args.width, ("nvfp4",))
    plain = timed(Running, members, args.device, args.seconds)
    name = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(f"{name}, {datetime.now(UTC):%Y-%m-%d}, {args.model} x {args.width}: {plain.rate:.1f} model-steps/s")
    factors = {}
    for what in args.only:
        with changed(CHANGES.get(what, lambda recipe, found: found)):
            own = [_with(trial, GRADIENTS.get(what, {})) for trial in members]
            factors[what] = round(plain.rate / timed(Running, own, args.device, args.seconds).rate, 3)
        print(f"{what}: {factors[what]}", flush=True)
    print(json.dumps(factors))


if __name__ == "__main__":
    main()
