"""``nn.MultiheadAttention`` with quantized projections takes every argument of the plain module."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dse.nn.quantize import quantize_
from dse.recipes import RECIPES
from tests.quantizers import normal

MAKE = {
    "packed": {},
    "own widths": {"kdim": 12, "vdim": 20},
    "no bias": {"bias": False},
    "bias of keys": {"add_bias_kv": True, "add_zero_attn": True},
    "batch first": {"batch_first": True},
    "dropout": {"dropout": 0.4},
}
CALL: dict[str, dict[str, Any]] = {
    "plain": {},
    "no weights": {"need_weights": False},
    "heads' weights": {"average_attn_weights": False},
    "padding": {"key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2])},
    "mask": {"attn_mask": normal(4, 6, seed=3).double()},
    "both": {
        "attn_mask": normal(4, 6, seed=3) > 1,
        "key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2]),
        "need_weights": False,
    },
    "causal": {"attn_mask": torch.ones(4, 6).triu(1).bool(), "is_causal": True, "need_weights": False},
}


@pytest.mark.parametrize("call", CALL)
@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("training", [True, False])
def test_unquantized_it_is_torchs_attention(make: str, call: str, training: bool) -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(16, 2, **MAKE[make]).double().train(training)  # type: ignore[arg-type]
    ours: Any = quantize_(nn.Sequential(copy.deepcopy(plain)), RECIPES["fp32"])[0]  # type: ignore[index]
    assert isinstance(ours, nn.MultiheadAttention)
    widths = (16, plain.kdim, plain.vdim)
    inputs = [normal(t, 2, n, seed=i).double() for i, (t, n) in enumerate(zip((4, 6, 6), widths, strict=True))]
    if plain.batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    results = []
    for module in (plain, ours):
        module.zero_grad()
        leaves = [x.clone().requires_grad_() for x in inputs]
        torch.manual_seed(1)  # dropout
        y, weights = module(*leaves, **CALL[call])
        y.square().sum().backward()
        results.append([y, *(x.grad for x in leaves), *(p.grad for p in module.parameters())])
        if weights is not None:
            results[-1].append(weights)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_without_a_batch_axis() -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(16, 2, batch_first=True).double()
    ours: Any = quantize_(nn.Sequential(copy.deepcopy(plain)), RECIPES["fp32"])[0]  # type: ignore[index]
    x: Tensor = normal(5, 16).double()
    for a, b in zip(ours(x, x, x), plain(x, x, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
