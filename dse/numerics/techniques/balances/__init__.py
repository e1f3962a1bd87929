"""Balances: a factor per input feature that moves range between activations and weights before quantization."""

from dse.numerics.techniques.balances.awq import Awq
from dse.numerics.techniques.balances.base import Balance
from dse.numerics.techniques.balances.smoothquant import SmoothQuant

BALANCES: dict[str, type[Balance]] = {"smoothquant": SmoothQuant, "awq": Awq}

__all__ = ["BALANCES", "Awq", "Balance", "SmoothQuant"]
