"""Kernel segments against the reference's: the gallery, and recipes made of random options. Also run as a script.

    TRITON_INTERPRET=1 python tests/pack/segment_cases.py [--generated N] [--seed S] [--large] [RECIPE ...]

On the CPU (in Triton's interpreter) everything has to be equal bit for bit; on a GPU, whose products of BF16 and FP32
operands are summed in different orders, up to a product's rounding.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.errors import OptionError
from dse.fused.checked import all_kernels
from dse.numerics.linear_gemms import is_plain
from dse.numerics.recipe import Exempt, Recipe, override
from dse.numerics.validate import check
from dse.pack.grouping import unlabeled
from dse.pack.layer import PackLayer
from dse.pack.linear import _Stacked
from dse.pack.segments import Reference
from dse.recipes import RECIPES

SMALL, LARGE = (32, 48, 32), (300, 200, 136)
CHOICES: dict[str, Sequence[object]] = {
    "fprop.rotation": (None, {"hadamard": {"size": 16, "signs": "fixed"}}, {"hadamard": {"size": 8}}),
    "dgrad.rotation": (None, {"hadamard": {"size": 16}}),
    "wgrad.rotation": (None, {"hadamard": {"size": 16, "signs": "none"}}),
    "fprop.accumulation": (None, "groups"),
    "wgrad.accumulation": (None, {"groups": {"size": 32, "rounding": "nearest_even"}}),
    "backward_source": ("original", "forward"),
    "W.tile": (1, 16),
    "X.outliers": (None, "asymmetric"),
    "G.rounding": ("nearest_even", "stochastic"),
    "fprop.lhs.slope": ("straight_through", "spline"),
    "W.choice": (None, "four_over_six"),
    "X.tensor_scale": (None, "current", {"delayed": {"every": 2}}),
    "weights": (None, "q_ema", "osci_reset"),
    "schedule": (None, "noise_switch"),
}
"""Options of generated recipes: what the programs of a segment differ in."""


def gallery() -> dict[str, Recipe]:
    """Every registered recipe for any layer."""
    return {name: unlabeled(replace(recipe, exempt=Exempt())) for name, recipe in RECIPES.items()}


def generated(count: int, seed: int) -> Iterator[tuple[str, Recipe]]:
    """Recipes with random options that mean something together, and what they are made of."""
    draw = random.Random(seed)
    while count:
        recipe, made = gallery()[draw.choice(("nvfp4", "mxfp4"))], {}
        for path in draw.sample(sorted(CHOICES), 5):
            value = draw.choice(CHOICES[path])
            try:
                recipe = override(recipe, path, value)
                made[path] = value
            except OptionError:
                continue
        try:
            check(recipe)
            for rule in filter(None, (recipe.weights,)):
                rule.check(recipe.fprop.rhs, recipe.fprop.rotation is not None)
        except OptionError:
            continue
        count -= 1
        yield str(made), recipe


def computed(recipes: Sequence[Recipe], operands: Sequence[Tensor], use_kernels: bool) -> list[Tensor]:
    """Y, dX, dW, db of one layer, W after a step with weight rules, and what the layer keeps between steps."""
    x, w, b, dy = operands
    clock = torch.tensor([[i, 3] for i in range(len(recipes))], device=w.device)
    layer = PackLayer(recipes, w, clock, 0, use_kernels)
    if use_kernels:
        parts = [part for part in layer.segments if isinstance(part, Reference)]
        assert all(is_plain(part.recipe) for part in parts), parts
    x, w, b = (t.clone().requires_grad_() for t in (x, w, b))
    y = _Stacked.apply(x, w, b, layer)  # type: ignore[no-untyped-call]
    gradients = torch.autograd.grad(y, (x, w, b), dy)
    with torch.no_grad():
        layer.grad, everybody = gradients[1].clone(), torch.ones(len(recipes), dtype=torch.bool, device=w.device)
        layer.apply_rules("before_step", everybody)
        layer.w = layer.w - 0.1 * layer.grad
        layer.apply_rules("after_step", everybody)
    return [y.detach(), *gradients, layer.w, *layer.tensors().values()]


def difference(recipes: Sequence[Recipe], dtype: torch.dtype, shape: tuple[int, int, int] = SMALL) -> float:
    """The largest difference of any result between kernels and reference, as a share of the largest value."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    m, n, k = shape
    generator = torch.Generator().manual_seed(7)
    shapes = ((m, k), (n, k), (n,), (m, n))
    x, w, b, dy = (torch.randn(len(recipes), *s, generator=generator).to(device) for s in shapes)
    operands = (x.to(dtype), w, b, dy.to(dtype))
    one, two = (computed(recipes, operands, use_kernels) for use_kernels in (False, True))
    worst = 0.0
    for a, c in zip(one, two, strict=True):
        assert a.dtype == c.dtype
        assert bool((a.isnan() == c.isnan()).all())
        a, c = a.double().nan_to_num(), c.double().nan_to_num()
        worst = max(worst, float((a - c).abs().max() / a.abs().max().clamp_min(1e-30)))
    return worst


@all_kernels()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--generated", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = gallery()
    chosen = args.names or [name for name in known if name != "fp32" and not args.generated]
    cases = [(name, known[name]) for name in chosen]
    cases += generated(args.generated, args.seed)
    bad = 0
    for name, recipe in cases:
        for dtype in (torch.float32, torch.bfloat16):
            allowed = 0.0 if not torch.cuda.is_available() else 1e-5 if dtype == torch.float32 else 2**-7
            off = difference([recipe] * 2, dtype, LARGE if args.large else SMALL)
            if off > allowed:
                bad += 1
                print(f"{name} {dtype}: differs by {off:g}")
    print(f"{len(cases)} recipes, seed {args.seed}, {bad} differ")
    return bad


if __name__ == "__main__":
    sys.exit(main())
