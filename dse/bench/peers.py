"""Linear layers of other simulators, microxcaling and torchao, in the same model, where they can be imported.

A path is the folder to import from (it holds ``mx`` or ``torchao``); '' means the installed package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from dse.bench.eager import Alter
from dse.bench.models import BenchModel
from dse.nn.select import chosen, swap
from dse.recipes import RECIPES

Make = Callable[[nn.Linear], nn.Module]


@dataclass(frozen=True)
class Peer:
    """``package``: whose path to take; ``make``: from its imported module to the maker of a layer."""

    package: str
    text: str
    make: Callable[[], Make]


def _microxcaling() -> Make:
    """MXFP4 in all three products, vectors in BF16, its PyTorch path (its CUDA extension is built apart)."""
    mx, specs = import_module("mx"), import_module("mx.specs")
    options: dict[str, Any] = {"w_elem_format": "fp4_e2m1", "a_elem_format": "fp4_e2m1", "scale_bits": 8}
    options |= {"block_size": 32, "bfloat": 16, "custom_cuda": False}
    final = specs.finalize_mx_specs(options)

    def make(linear: nn.Linear) -> nn.Module:
        layer: nn.Module = mx.Linear(linear.in_features, linear.out_features, linear.bias is not None, mx_specs=final)
        return _with_parameters(layer, linear)

    return make


def _torchao_fp4() -> Make:
    """Quantization-aware training in MXFP4: the forward product emulated, the backward ones in high precision."""
    qat = import_module("torchao.prototype.qat.mx")
    config = qat.MXFakeQuantizeConfig()

    def make(linear: nn.Linear) -> nn.Module:
        layer: nn.Module = qat.MXFakeQuantizedLinear.from_linear(linear, config, config)
        return layer

    return make


def _torchao_fp8() -> Make:
    """MXFP8 in all three products, emulated."""
    module = import_module("torchao.prototype.moe_training.mxfp8_linear")
    kinds = import_module("torchao.quantization.quantize_.common.kernel_preference")

    def make(linear: nn.Linear) -> nn.Module:
        layer: nn.Module = module.MXFP8Linear(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            kernel_preference=kinds.KernelPreference.EMULATED,
            device=linear.weight.device,
        )
        return _with_parameters(layer, linear)

    return make


PEERS: dict[str, Peer] = {
    "microxcaling": Peer("microxcaling", "microxcaling's Linear: MXFP4, all products, bfloat 16", _microxcaling),
    "torchao mxfp4": Peer("torchao", "torchao's MXFakeQuantizedLinear: MXFP4, forward product only", _torchao_fp4),
    "torchao mxfp8": Peer("torchao", "torchao's MXFP8Linear, emulated: all products", _torchao_fp8),
}


@contextmanager
def importable(paths: Mapping[str, str], package: str) -> Iterator[None]:
    """Puts the package's path first in ``sys.path``. Raises ModuleNotFoundError for one that nobody gave."""
    if package not in paths:
        raise ModuleNotFoundError(f"no path given for {package}")
    before = list(sys.path)
    sys.path[:0] = [paths[package]] * bool(paths[package])
    try:
        yield
    finally:
        sys.path[:] = before


def alter(peer: Peer) -> Alter:
    """Replaces the linears that a recipe would quantize."""
    make = peer.make()

    def replace(model: nn.Module, subject: BenchModel) -> nn.Module:
        kept = chosen(model, RECIPES["nvfp4"], exempt=subject.task.exempt())
        swap(model, {linear: make(linear) for linear in kept if isinstance(linear, nn.Linear)})
        return model

    return replace


def _with_parameters(layer: nn.Module, linear: nn.Linear) -> nn.Module:
    layer.weight, layer.bias = linear.weight, linear.bias
    return layer
