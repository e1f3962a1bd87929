"""Errors of SageAttention3 and of its ablations against exact attention, on Gaussian operands.

python -m dse.bench.attention_ablations [--tokens 1024] [--dim 64] [--seeds 5] [--causal]

Q and K have channels with means, as a model's have: of standard deviation 1.5 for Q and 3 for K over the channels;
logits are doubled, which makes the weights peaky. V and what is around the means is standard normal.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from dse.numerics.attention import Attention
from dse.numerics.recipe import override
from dse.post.attention_errors import AttentionErrors, attention_errors
from dse.recipes import RECIPES

_MXFP4 = {"block": {"constant": 4, "scale_rounding": "toward_zero"}}
_FP32_SCALE = {"scale": "fp32", "block": 0}
_ONE_LEVEL = {"outer": {"blocks": 0, "target": 1 / 6}}

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "SageAttention3": {},
    "P in one level": {"attention.outputs.fprop.lhs.tensor_scale": _ONE_LEVEL},
    "Q not smoothed": {"attention.smooth_queries": "none"},
    "K not smoothed": {"attention.smooth_keys": False},
    "Q and K not smoothed": {"attention.smooth_queries": "none", "attention.smooth_keys": False},
    "Q by one mean": {"attention.smooth_queries": 0},
    "Q, K, P and V in MXFP4": {"attention.forward": _MXFP4},
    "Q and K in NVFP4, P and V in FP8": {"attention.outputs.forward": {"block": {"element": "e4m3", **_FP32_SCALE}}},
    "Q and K in INT8, P and V in FP8 (as SageAttention2)": {
        "attention.scores.forward": {"block": {"element": "int8", **_FP32_SCALE}},
        "attention.outputs.forward": {"block": {"element": "e4m3", **_FP32_SCALE}},
    },
    "Q, K, P and V in INT8": {"attention.forward": {"block": {"element": "int8", **_FP32_SCALE}}},
}
"""What is changed of the recipe ``sageattention3``: paths and what YAML holds."""


def variant(changes: Mapping[str, object]) -> Attention:
    """The recipe's attention with options set."""
    recipe = RECIPES["sageattention3"]
    for path, data in changes.items():
        recipe = override(recipe, path, data)
    assert recipe.attention is not None
    return recipe.attention


def operands(tokens: int, dim: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v [1, 4, T, D]; see the module."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, 4, *shape, generator=draw)

    q, k, v = (normal(tokens, dim) for _ in range(3))
    return 2 * (q + 1.5 * normal(1, dim)), k + 3 * normal(1, dim), v


def measured(numerics: Attention, tokens: int, dim: int, seeds: int, causal: bool) -> AttentionErrors:
    """Means over operands of several seeds."""
    found = [attention_errors(numerics, *operands(tokens, dim, seed), causal) for seed in range(seeds)]
    return AttentionErrors(*(fmean(getattr(one, n) for one in found) for n in ("cosine", "relative_l1", "rmse")))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--causal", action="store_true")
    own = parser.parse_args(arguments)
    print("| attention | cosine | relative L1 | RMSE |\n| --- | --- | --- | --- |")
    for name, changes in VARIANTS.items():
        errors = measured(variant(changes), own.tokens, own.dim, own.seeds, own.causal)
        print(f"| {name} | {errors.cosine:.4f} | {errors.relative_l1:.4f} | {errors.rmse:.4f} |")


if __name__ == "__main__":
    main()
