"""SQ-DM's mixed blocks as rules about layers: which layer of a U-Net has which format, and the numbers in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dse.numerics.stored_bits import stored_bits
from dse.post.layers import PostQuantizedLayer
from dse.post.quantize_post import quantize_with
from dse.report.analysis.post_claims import POST_CLAIMS
from dse.report.analysis.published import recipe_content
from dse.sweep import load_sweep
from dse.tasks.nets.conv import UNet
from tests.post import reference
from tests.post.reference import Array

SWEEP = load_sweep(Path(__file__).parents[2] / "sweeps" / "sq-dm.yaml")
TRIALS = {cell.config: cell.trial for cell in SWEEP.cells}
OUTER = {"down.0.conv1", "down.0.conv2", "up.0.conv1", "up.0.conv2", "up.0.shortcut"}
INNER = {"shrink.0", "middle.conv1", "middle.conv2", "grow.0"}


def vsq(w: Array) -> Array:
    """INT4 under E4M3 scales of 16 elements, in units that the largest weight sets."""
    unit = np.abs(w).max() / (448 * 7)
    s = reference.spread(reference.e4m3(np.abs(reference.blocks(w, 16)).max(-1) / 7 / unit) * unit, 16)
    return np.clip(np.rint(w / s), -7, 7) * s


def mxint8(w: Array) -> Array:
    padded = np.pad(w, ((0, 0), (0, -w.shape[1] % 32)))
    s = 2.0 ** (np.floor(np.log2(np.abs(reference.blocks(padded, 32)).max(-1))) - 6)
    return (np.clip(np.rint(padded / (s := reference.spread(s, 32))), -127, 127) * s)[:, : w.shape[1]]


def test_formats_and_weights() -> None:
    torch.manual_seed(0)
    net, task = UNet(1, 16, (1, 2), 32), TRIALS["bf16"].task
    made = quantize_with(net, TRIALS["sq_dm post=rtn"].recipe, {}, task.exempt())
    layers = {name: layer for name, layer in made.named_modules() if isinstance(layer, PostQuantizedLayer)}
    assert layers.keys() == OUTER | INNER
    plain = dict(net.named_modules())
    for name, layer in layers.items():
        w = plain[name].weight.detach().flatten(1).double().numpy()
        expected = mxint8(w) if name in OUTER else vsq(w)
        found = layer.weight if layer.alpha is None else layer.weight * layer.alpha
        np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-5, atol=1e-9)
        element = layer.gemm.lhs.element.name  # type: ignore[union-attr]
        assert element == ("int8" if name in OUTER else "int4")
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    bits = sum(stored_bits(own.gemm.rhs, *own.weight.shape) * sizes[name] for name, own in layers.items())
    assert sum(sizes[name] for name in INNER) / sum(sizes.values()) == pytest.approx(0.697, abs=1e-3)
    budget = next(trial for config, trial in TRIALS.items() if "autoquantize" in config).recipe.post.bits  # type: ignore[union-attr]
    assert budget - 0.01 < bits / sum(sizes.values()) <= budget


def test_the_claims_recipes_are_those_of_the_sweep() -> None:
    found = [claim for claim in POST_CLAIMS if claim.statement.startswith("SQ-DM")]
    recipes = {recipe_content(trial.recipe) for trial in TRIALS.values()}
    assert len(found) == 2
    assert all(recipe_content(recipe) in recipes for claim in found for recipe in (claim.better, claim.worse))
