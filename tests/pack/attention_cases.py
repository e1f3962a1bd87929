"""Attention of packs by kernels against each member alone in plain torch. Also run as a script.

    TRITON_INTERPRET=1 python tests/pack/attention_cases.py [RECIPE ...]

On the CPU (in Triton's interpreter) everything has to be equal bit for bit; on a GPU, whose products are summed in
other orders, most numbers are equal and none is far off.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.nn.attention import attend, stream
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe, override
from dse.pack.attention import PackAttention
from dse.pack.attention_products import AttentionProducts
from dse.recipes import RECIPES


def recipes() -> dict[str, Recipe]:
    """The recipes that say something about attention, and others for it and the linears alike."""
    own = {name: recipe for name, recipe in RECIPES.items() if recipe.attention is not None}
    same = {name: override(RECIPES[name], "attention", "same") for name in ("nvfp4", "mxfp4_rht_sr", "quartet")}
    smooth = override(same["nvfp4"], "attention.smooth_keys", True)
    return own | same | {"bf16": RECIPES["bf16"], "smooth": smooth}


def operands(members: int, shape: tuple[int, ...]) -> list[Tensor]:
    """Queries, keys, values and a gradient [E, B, H, T, D]."""
    g = torch.Generator().manual_seed(5)
    return [torch.randn(members, *shape, generator=g) for _ in range(4)]


def compare(names: Sequence[str], device: str, shape: tuple[int, ...] = (1, 2, 18, 16), causal: bool = True) -> None:
    """Raises AssertionError where a member's output or gradients differ from its own alone."""
    mix = [recipes()[name] for name in names]
    tensors = [t.to(device) for t in operands(len(mix), shape)]
    clock = torch.tensor([[7 * i, 3] for i in range(len(mix))], device=device)
    packed = PackAttention(torch.nn.Module(), [r if r.attention else None for r in mix], clock, 2, True)
    count = 0
    for at, own in packed.parts:
        if own is None:
            continue
        assert isinstance(own, AttentionProducts), own
        leaves = [t[at].clone().requires_grad_() for t in tensors[:3]]
        y = packed._run(own, (*leaves, None), causal, clock[at])  # type: ignore[arg-type]
        found = [y, *torch.autograd.grad(y, leaves, tensors[3][at])]
        for i in range(at.start, at.stop):
            alone = [t[i].clone().requires_grad_() for t in tensors[:3]]
            y = attend(mix[i].attention, *alone, causal, None, Key(clock[i], stream(2)))  # type: ignore[arg-type]
            wanted = [y, *torch.autograd.grad(y, alone, tensors[3][i])]
            for what, one, two in zip(("Y", "dQ", "dK", "dV"), found, wanted, strict=True):
                mine = one[i - at.start]
                off = ((mine - two).abs().max() / two.abs().max()).item()
                same = (mine == two).float().mean().item()
                good = same == 1 if device == "cpu" else off < 0.2
                assert good, f"{names[i]} {what}: {same:.0%} equal, {off:.2g} off"
                print(f"{names[i]} {what}: {same:.1%} equal, {off:.2g} off")
            count += 1
    print("compared", count)


if __name__ == "__main__":
    on = "cuda" if torch.cuda.is_available() else "cpu"
    large = {"shape": (2, 4, 128, 32)} if on == "cuda" else {}
    compare(sys.argv[1:] or list(recipes()), on, **large)  # type: ignore[arg-type]
