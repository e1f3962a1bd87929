"""Weight rules: what is done to a quantized layer's weights besides the optimizer's step."""

from dse.numerics.techniques.weights.base import WeightRule
from dse.numerics.techniques.weights.osci_reset import OsciReset
from dse.numerics.techniques.weights.q_ema import QEma
from dse.numerics.techniques.weights.q_ramping import QRamping

WEIGHT_RULES: dict[str, type[WeightRule]] = {"q_ema": QEma, "q_ramping": QRamping, "osci_reset": OsciReset}

__all__ = ["WEIGHT_RULES", "OsciReset", "QEma", "QRamping", "WeightRule"]
