"""Weight rules by kernels against plain torch, several steps of several members: also on a bare GPU machine.

[TRITON_INTERPRET=1] python tests/kernels/weight_rule_cases.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.fused.checked import all_kernels
from dse.numerics.recipe import Recipe
from dse.numerics.techniques.tensor_scales import Current, Delayed
from dse.numerics.techniques.weights import OsciReset, QEma, QRamping
from dse.pack.layer import PackLayer
from dse.pack.linear import _Stacked
from dse.pack.rule_state import RuleState
from dse.recipes import RECIPES

STEPS = 7


def recipes() -> Iterator[tuple[str, Recipe]]:
    """Each rule with W's scales as published and with a tensor scale, in periods that end within the steps."""
    reset, ramping, ema = OsciReset(4, 2, 1.5), QRamping(5, 2, 0.5, 2), QEma(0.5, 2)
    for name, rule in (("osci_reset", reset), ("osci_reset, late", replace(reset, start=3)), ("q_ramping", ramping)):
        yield name, replace(RECIPES["tetrajet2"], weights=rule)
    yield "q_ema", replace(RECIPES["tetrajet_q_ema"], weights=ema)
    for rule, scale in ((ramping, Current()), (reset, Delayed(2)), (ema, Delayed(2))):
        own = replace(RECIPES["nvfp4"].fprop, rhs=replace(RECIPES["nvfp4"].fprop.rhs, tensor_scale=scale, gain=0.75))
        yield f"{type(rule).__name__} {scale}", replace(RECIPES["nvfp4"], fprop=own, weights=rule)


def trained(recipe: Recipe, use_kernels: bool, device: str) -> list[Tensor]:
    """Y, W, its gradients as shown, and what the layer keeps, after steps of three members, some of them skipped."""
    generator = torch.Generator().manual_seed(5)
    members, n, k = 3, 6, 40
    clock = torch.tensor([[2**40 + i, 3] for i in range(members)])
    flat = torch.randn(members, n * k + 7, generator=generator)
    wide = torch.zeros_like(flat)
    clock, flat, wide = (t.to(device) for t in (clock, flat, wide))
    w, grad = (t[:, 3 : 3 + n * k].view(members, n, k) for t in (flat, wide))
    layer = PackLayer([recipe] * members, w, clock, 0, use_kernels)
    layer.grad, rules = grad, RuleState([layer])
    assert layer.keeps_skipped == use_kernels

    def apply(method: str, active: Tensor) -> None:
        if use_kernels:
            layer.apply_rules(method, active)
        else:
            rules.keep(active, lambda: layer.apply_rules(method, active))

    seen = []
    for step in range(STEPS):
        x = torch.randn(members, 4, k, generator=generator).to(device)
        if (
            device == "cpu" and isinstance(recipe.weights, QEma) and step in (1, 3)
        ):  # on a GPU kernels add up products in an order of their own
            seen.append(_Stacked.apply(x, w, None, layer))  # type: ignore[no-untyped-call]
        active = torch.tensor([True, step % 4 != 1, step != 5]).to(device)
        grad.copy_(torch.randn(members, n, k, generator=generator).to(device))
        apply("before_step", active)
        seen.append(grad.clone())
        moved = w - 0.3 * grad
        w.copy_(torch.where(active[:, None, None], moved, w))
        apply("after_step", active)
        seen.append(w.clone())
        clock[:, 1] += 1
    return [flat, *seen, *layer.tensors().values()]


@all_kernels()
def main() -> int:
    device, bad = "cuda" if torch.cuda.is_available() else "cpu", 0
    for number, (name, recipe) in enumerate(recipes()):
        if device == "cpu" and number in (0, 4):  # the interpreter is slow
            continue
        wanted, found = (trained(recipe, use_kernels, device) for use_kernels in (False, True))
        wrong = [i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if not torch.equal(a, b)]
        bad += len(wrong)
        print(f"{name}: {len(wanted)} tensors, {len(wrong)} differ {wrong[:5]}")
    print(f"weight rules on {device}, {bad} differ")
    return bad


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main() > 0)
