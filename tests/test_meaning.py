"""Combinations without a meaning are refused with the reason, and only they: nothing is silently ignored."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch

from dse.errors import OptionError
from dse.nn.linear import quantized_linear
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.random import Key
from dse.numerics.recipe import GEMMS, RECIPE_OPTIONS, Recipe, override
from dse.numerics.validate import check, reasons
from dse.recipes import RECIPES

Settings = dict[str, Any]

REFUSED: list[tuple[str, Settings, str, Settings]] = [
    (
        "nvfp4_plain",
        {"G.slope": "dge"},
        "dgrad.lhs.slope: only X and W of the forward",
        {"G.slope": "straight_through"},
    ),
    (
        "mxfp4",
        {"wgrad.rhs.scale_gradient": "full"},
        "wgrad.rhs.scale_gradient: only X and W",
        {"wgrad.rhs.scale_gradient": "constant"},
    ),
    (
        "nvfp4_plain",
        {"dgrad.rhs.tensor_scale": {"current": {"through": "exact"}}},
        "dgrad.rhs.tensor_scale.through: only X and W",
        {"dgrad.rhs.tensor_scale": "current"},
    ),
    (
        "mxfp4",
        {"forward.scale_slope": "dge"},
        "no gradient flows through the scale",
        {"forward.scale_gradient": "full"},
    ),
    (
        "nvfp4_plain",
        {"forward.scale_slope": "dge"},
        "no gradient flows",
        {"forward.tensor_scale": {"current": {"through": "exact"}}},
    ),
    ("mxfp4", {"X.statistic": "hard_soft"}, "hard_soft is absmax but for its gradient", {"X.statistic": "soft_soft"}),
    ("mxfp4", {"G.rounding": "mantissa_even"}, "is a rule for power-of-two scales", {"G.rounding": "stochastic"}),
    ("nvfp4_plain", {"*.scale_rounding": "mantissa_even"}, "not for ue4m3", {"*.scale": "e8m0"}),
    ("mxfp4", {"*.scale": "fp32"}, "a cast to fp32 rounds nothing", {"*.scale_rounding": "nearest_even"}),
    (
        "mxfp4",
        {"forward.scale_gradient": "full", "forward.scale_slope": "spline"},
        r"below the first of the spline's points over \[0, 1.7e\+38\]",
        {"forward.scale": "ue4m3"},
    ),
    (
        "nvfp4_plain",
        {"*.convention": {"encode": {"divisor": True}}, "*.tensor_scale": "none"},
        "divisor is the tensor scale's",
        {"*.tensor_scale": "current"},
    ),
    (
        "nvfp4_plain",
        {"*.convention": "encode", "*.tensor_scale": {"current": {"target": 100}}},
        "encode without divisor has no target",
        {"*.convention": {"encode": {"divisor": True}}},
    ),
    ("mxfp4", {"*.convention": {"decode": {"zero": "one"}}}, "e8m0, which has no zero", {"*.scale": "ue5m3"}),
    (
        "mxfp4",
        {"*.scale": "bf16", "*.convention": {"decode": {"zero": "smallest"}}},
        "whose inverse overflows FP32",
        {"*.convention": "decode"},
    ),
    (
        "nvfp4_plain",
        {"X.tensor_scale": {"current": {"target": 500}}},
        "target 500 is above ue4m3's largest value, 448",
        {"X.scale": "ue5m3"},
    ),
    (
        "nvfp4_plain",
        {"X.tensor_scale": "delayed", "X.outliers": "asymmetric"},
        "two references per operand",
        {"X.outliers": "clamp"},
    ),
    ("mxfp4", {"*.choice": "four_over_six"}, "needs e2m1 elements, constant 6", {"*.constant": "none"}),
    ("nvfp4_plain", {"*.choice": "if4", "*.element": "e3m0"}, "if4 needs e2m1", {"*.element": "e2m1"}),
    ("nvfp4_plain", {"*.choice": "if4", "*.scale": "ue5m3"}, "spare bit of its scale", {"*.scale": "ue4m3"}),
    (
        "nvfp4_plain",
        {"*.choice": {"scale_sweep": {"low": 0, "high": 0}}},
        "nothing to choose from",
        {"*.choice": "scale_sweep"},
    ),
    ("bf16", {"wgrad.rotation": "hadamard"}, "wgrad.rotation: neither operand", {"wgrad.lhs": "block"}),
    ("fp32", {"attention": "same"}, "attention: none of its products' operands is quantized", {"attention.G": "block"}),
    (
        "bf16",
        {"attention.scores.fprop.lhs": "block", "attention.smooth_keys": True},
        "attention.smooth_keys: the keys have no block quantizer",
        {"attention.scores.W": "block"},
    ),
    (
        "nvfp4_plain",
        {"attention.scores.X": {"block": {"tensor_scale": "delayed"}}},
        "attention.scores.fprop.lhs.tensor_scale: each sample and head has its own",
        {"attention.scores.X.tensor_scale": "current"},
    ),
    (
        "mxfp4",
        {"attention.outputs.G": {"block": {"slope": "dge"}}},
        "attention.outputs.dgrad.lhs.slope: only X and W of the forward",
        {"attention.outputs.G.slope": "straight_through"},
    ),
    (
        "mxfp4",
        {"attention.wgrad.rotation": "hadamard", "attention.scores.G": "block"},
        "attention.outputs.wgrad.rotation: neither operand",
        {"attention.wgrad.rotation": "none"},
    ),
    (
        "mxfp4",
        {"attention.scores": {"backward_source": "forward", "dgrad": {"lhs": "block"}}},
        "attention.scores.backward_source: the forward GEMM quantizes nothing",
        {"attention.scores.backward_source": "original"},
    ),
    (
        "nvfp4_plain",
        {"attention": "same", "schedule": "noise_switch"},
        "schedule: noise_switch watches the gradients of linears",
        {"schedule": "last_stage"},
    ),
    ("bf16", {"backward_source": "forward"}, "copies are the originals", {"fprop.lhs": "block"}),
    ("bf16", {"schedule": "last_stage"}, "schedule: the recipe quantizes nothing", {"fprop.lhs": "block"}),
    ("bf16", {"exempt.last": 2}, "exempt: the recipe quantizes nothing", {"wgrad.lhs": "block"}),
    (
        "bf16",
        {"fprop.lhs": "block", "schedule": "forward_only"},
        "backward GEMMs to BF16, and they quantize nothing",
        {"dgrad.rhs": "block"},
    ),
    (
        "bf16",
        {"dgrad.rhs": "block", "schedule": "noise_switch"},
        "dgrad.lhs has no block quantizer",
        {"dgrad.lhs": "block"},
    ),
    ("mxfp4", {"weights": "q_ema", "fprop.rotation": "hadamard"}, "follows elements of W", {"fprop.rotation": "none"}),
    ("mxfp4", {"weights": "q_ema", "fprop.rhs.rounding": "stochastic"}, "cannot be stochastic", {"weights": "none"}),
    ("bf16", {"weights": "osci_reset"}, "needs a block quantizer of W", {"fprop.rhs": "block"}),
]
"""Recipe, settings without a meaning together, the reason, and one more setting that mends them."""


def apply(name: str, settings: Settings) -> Recipe:
    recipe = RECIPES[name]
    for path, data in settings.items():
        recipe = override(recipe, path, data)
    return recipe


@pytest.mark.parametrize(("name", "settings", "reason", "mend"), REFUSED, ids=[" ".join(s) for _, s, _, _ in REFUSED])
def test_refused_with_the_reason_until_mended(name: str, settings: Settings, reason: str, mend: Settings) -> None:
    """In every order of the settings; one line that starts with a path; the mended recipe is accepted."""
    for order in permutations(settings):
        with pytest.raises(OptionError, match=reason) as caught:
            check(apply(name, {path: settings[path] for path in order}))
    text = str(caught.value)
    assert "\n" not in text
    assert text.split(":")[0].split(".")[0] in {*GEMMS, *RECIPE_OPTIONS}
    assert list(reasons(apply(name, {**settings, **mend}))) == []


@pytest.mark.parametrize("name", RECIPES)
def test_the_gallery_has_a_meaning(name: str) -> None:
    assert list(reasons(RECIPES[name])) == []


def test_all_reasons_are_found_point_by_point() -> None:
    found = list(reasons(apply("mxfp4", {"backward.slope": "dge", "*.choice": "if4"})))
    assert sum(".slope: " in r for r in found) == 4
    assert sum("if4 needs e2m1 elements, constant 6" in r for r in found) == 6
    assert sum("if4 marks" in r for r in found) == 6
    assert len(found) == 16


@pytest.mark.parametrize(
    "settings",
    [
        {"*.slope": "dge"},
        {"W.slope": "dge"},
        {"*.slope": "dge", "X.slope": "straight_through"},
        {"*.scale_gradient": "full", "*.statistic": "hard_soft", "*.scale_slope": "dge"},
        {"*.tensor_scale": {"current": {"through": "exact"}}, "*.scale_slope": "sigmoid"},
    ],
    ids=str,
)
def test_options_about_derivatives_may_be_set_everywhere_at_once(settings: Settings) -> None:
    """They act at the forward points; at the others they are copies of an option that is at work."""
    assert list(reasons(apply("nvfp4_plain", settings))) == []


IGNORED = [entry for entry in REFUSED if "only X and W" in entry[2] or "no gradient flows" in entry[2]]


@pytest.mark.parametrize(("name", "settings", "reason", "mend"), IGNORED, ids=[" ".join(s) for _, s, _, _ in IGNORED])
def test_what_is_refused_as_ineffective_is(name: str, settings: Settings, reason: str, mend: Settings) -> None:
    """Y, dX and dW are the same bits with and without the setting."""
    generator = torch.Generator().manual_seed(0)
    x, w, g = (torch.randn(*s, generator=generator) for s in ((24, 64), (32, 64), (24, 32)))
    results = []
    for recipe in (RECIPES[name], apply(name, settings)):
        leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
        y = quantized_linear(*leaves, None, recipe, LinearContext(Key(torch.tensor([0, 1]))))
        results.append([y.detach(), *torch.autograd.grad(y, leaves, g)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
