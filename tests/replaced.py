"""Small quantized models for the tests of replaced layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dse.nn.quantize import quantize_
from dse.numerics.recipe import Exempt
from dse.recipes import RECIPES

FP32, NVFP4 = RECIPES["fp32"], RECIPES["nvfp4"]


def everywhere(name: str) -> Any:
    """A recipe that exempts no layer."""
    return replace(RECIPES[name], exempt=Exempt())


def linear(recipe: Any = NVFP4, k: int = 32, n: int = 8, bias: bool = True) -> Any:
    torch.manual_seed(0)
    return quantize_(nn.Sequential(nn.Linear(k, n, bias=bias)), recipe)


def conv(recipe: Any = NVFP4) -> Any:
    torch.manual_seed(0)
    return quantize_(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), recipe)
