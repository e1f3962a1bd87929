"""The kinds of layers that hold matrix weights: what is quantized and as which GEMMs, what is not and why.

A module's kind is its class, by its qualified name: nothing is imported to look it up, and a subclass, whose owner may
compute something else, is of another kind. Experts held as 3-D parameters are known by what ``transformers`` says of
their layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

MatrixShape = tuple[int, int]
"""N and K of a GEMM Y = X W^T."""


@dataclass(frozen=True)
class Kind:
    """A kind of layer that is quantized.

    ``shapes``: [N, K] of each of a layer's GEMMs; ``rows``: what one row of X is; ``active``: the share of the GEMMs
    that a token goes through; ``first``: numbered among the linears and convolutions, before all other kinds.
    """

    shapes: Callable[[Any], list[MatrixShape]]
    rows: str = "token"
    active: Callable[[Any], float] = lambda module: 1.0
    first: bool = False


def _convolution(conv: Any) -> list[MatrixShape]:
    n, k = conv.out_channels // conv.groups, conv.in_channels // conv.groups * prod(conv.kernel_size)
    return [(n, k)] * conv.groups


def _transposed_convolution(conv: Any) -> list[MatrixShape]:
    n, k = conv.out_channels // conv.groups * prod(conv.kernel_size), conv.in_channels // conv.groups
    return [(n, k)] * conv.groups


def _heads(attention: Any) -> list[MatrixShape]:
    e = attention.embed_dim
    return [(e, e), (e, attention.kdim), (e, attention.vdim), (e, e)]


def _experts(experts: Any) -> list[MatrixShape]:
    up, down = (
        [*w.shape[1:]] for w in (experts.gate_up_proj if experts.has_gate else experts.up_proj, experts.down_proj)
    )
    if experts.is_transposed:
        up, down = up[::-1], down[::-1]
    return [(up[0], up[1])] * experts.num_experts + [(down[0], down[1])] * experts.num_experts


def routed(experts: Any) -> float:
    """The share of experts that a token goes through, by the model's configuration; 1 where it does not say."""
    config = getattr(experts, "config", None)
    for name in ("num_experts_per_tok", "moe_topk", "top_k", "num_experts_per_token", "top_k_experts"):
        if isinstance(found := getattr(config, name, None), int):
            return found / int(experts.num_experts)
    return 1.0


LINEAR = Kind(lambda m: [(m.out_features, m.in_features)], first=True)
DERIVED_LINEAR = Kind(lambda m: [(m.out_features, m.in_features)])
CONV2D = Kind(_convolution, "output pixel", first=True)
CONVOLUTION = Kind(_convolution, "output pixel")
TRANSPOSED_CONVOLUTION = Kind(_transposed_convolution, "input pixel")
TRANSPOSED_LINEAR = Kind(lambda m: [(m.nf, m.nx)])
HEADS = Kind(_heads)
EXPERTS = Kind(_experts, active=routed)

KINDS: dict[str, Kind] = {
    "torch.nn.modules.linear.Linear": LINEAR,
    "torch.nn.modules.conv.Conv1d": CONVOLUTION,
    "torch.nn.modules.conv.Conv2d": CONVOLUTION,
    "torch.nn.modules.conv.Conv3d": CONVOLUTION,
    "torch.nn.modules.conv.ConvTranspose1d": TRANSPOSED_CONVOLUTION,
    "torch.nn.modules.conv.ConvTranspose2d": TRANSPOSED_CONVOLUTION,
    "torch.nn.modules.activation.MultiheadAttention": HEADS,
    "transformers.pytorch_utils.Conv1D": TRANSPOSED_LINEAR,
    "transformers.models.falcon.modeling_falcon.FalconLinear": DERIVED_LINEAR,  # x W^T + b, in two roundings
}
"""What is quantized, by class; see also ``_layout`` for experts."""

_FUSED = "torch computes it in one fused call, without operands to quantize"
REFUSED: dict[str, str] = {
    "torch.nn.modules.rnn.RNN": _FUSED,
    "torch.nn.modules.rnn.LSTM": _FUSED,
    "torch.nn.modules.rnn.GRU": _FUSED,
    "torch.nn.modules.rnn.RNNCell": _FUSED,
    "torch.nn.modules.rnn.LSTMCell": _FUSED,
    "torch.nn.modules.rnn.GRUCell": _FUSED,
    "torch.nn.modules.linear.Bilinear": "a product of three operands",
    "torch.nn.modules.conv.ConvTranspose3d": "transposed convolutions are quantized in one and two dimensions",
}
"""What is known and not quantized, by class, and why."""

LOOKUPS = (nn.Embedding, nn.EmbeddingBag)
"""Tables whose rows are looked up: no GEMM, so they are left without a word."""


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module without those that torch puts over it: ``parametrize``, ``fully_shard``."""
    own: type[nn.Module] = type(module)
    if own.__name__.startswith("FSDP") and any(parent.__name__ == "FSDPModule" for parent in own.__mro__):
        own = own.__mro__[2]
    if is_parametrized(module) and own.__name__.startswith("Parametrized"):
        own = own.__mro__[1]
    return own


def class_name(module: nn.Module) -> str:
    """The qualified name of a module's class."""
    own = plain_class(module)
    return f"{own.__module__}.{own.__qualname__}"


def is_quantized(module: nn.Module) -> bool:
    """Whether ``quantize_`` or ``quantize_post`` has made this layer."""
    return bool(getattr(type(module), "quantized_layer", False))


def gemms(module: Any) -> list[MatrixShape]:
    """[N, K] of each GEMM of a layer, plain or quantized; empty for anything else."""
    kind = kind_of(module)
    if is_quantized(module) and hasattr(module, "shapes"):  # made after training
        shapes: list[MatrixShape] = module.shapes
        return shapes
    if is_quantized(module):  # a class derived from the plain one
        names = (f"{c.__module__}.{c.__qualname__}" for c in type(module).__mro__)
        kind = next((KINDS[name] for name in names if name in KINDS), EXPERTS)
    return kind.shapes(module) if kind else []


def active(module: Any) -> float:
    """The share of a layer's GEMMs that one row of X goes through: 1, or the share of experts that a router chooses."""
    if is_quantized(module):
        return float(getattr(module, "active", 1.0))
    kind = kind_of(module)
    return kind.active(module) if kind else 1.0


def is_first(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether this is an ``nn.Linear``, or an ``nn.Conv2d`` without groups that is padded with zeros."""
    found = kind_of(module)
    return found is not None and found.first


def kind_of(module: nn.Module) -> Kind | None:
    """The kind as which a module is quantized, or None."""
    if is_quantized(module) or is_lazy(module):
        return None
    if plain_class(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
        return CONV2D
    return KINDS.get(class_name(module)) or (EXPERTS if _layout(module) else None)


def refusal(module: nn.Module) -> str | None:
    """Why a module that holds matrix weights cannot be quantized; None where it can, or holds none."""
    if is_quantized(module) or kind_of(module) or isinstance(module, LOOKUPS) or is_router(module):
        return None
    if is_lazy(module):
        return "it has no weights yet: run one batch through the model first"
    if class_name(module) in REFUSED:
        return REFUSED[class_name(module)]
    if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
        plain = next(c.__name__ for c in type(module).__mro__ if c.__module__.startswith("torch.nn.modules."))
        return f"a subclass of nn.{plain}, which may compute something else"
    stacks = [f"{name} {[*p.shape]}" for name, p in _computed(module) if is_stack(name, p)]
    return f"a layout of weights that is not known: {', '.join(stacks)}" if stacks else None


def remark(module: nn.Module) -> str:
    """Why a module that holds matrices, and is neither quantized nor refused, is left."""
    if isinstance(module, LOOKUPS):
        return "a lookup table, no GEMM"
    if is_router(module):
        return "a router of experts, kept in high precision (arXiv 2412.19437, Sec. 3.3.1)"
    return "no weight of a layer, by its shape and name"


def is_lazy(module: nn.Module) -> bool:
    """Whether the module has not seen a batch yet."""
    return isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params()


def is_router(module: nn.Module) -> bool:
    """Whether the module chooses experts: by its class's name, and one weight [experts, features]."""
    return "router" in type(module).__name__.lower() and bool([*matrices(module)])


def matrices(module: nn.Module, inside: bool = False) -> Iterator[tuple[str, Tensor]]:
    """The module's own parameters with at least two axes (``inside``: those of its parts, too), without biases.

    And the weight on its grid of a layer that was quantized after training.
    """
    own: dict[str, Tensor] = dict(module.named_parameters(recurse=inside))
    if is_quantized(module) and module._buffers.get("weight") is not None:
        own["weight"] = module.get_buffer("weight")
    for name, p in own.items():
        if not isinstance(p, nn.parameter.UninitializedParameter) and p.dim() >= 2 and "bias" not in name:
            yield name, p


def is_stack(name: str, parameter: Tensor) -> bool:
    """Whether a parameter outside of all known layers may enter a GEMM.

    These are stacks of matrices, and matrices that are called weights, projections, kernels, w1 ... Tables of
    positions, [1, T, D] or [T, D] and not called so, are added.
    """
    axes = len([n for n in parameter.shape if n > 1])
    if parameter.shape[0] == 1 or axes < 2 or "position" in name or "embed" in name:
        return False
    return axes > 2 or bool(_WEIGHT.search(name))


_WEIGHT = re.compile(r"weight|proj|kernel|matrix|^[wvuo]\d*$", re.IGNORECASE)


def _computed(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The module's own matrices, and those that parametrizations compute from others (without computing them)."""
    yield from matrices(module)
    for name, origin in getattr(module, "parametrizations", {}).items():
        yield from ((name, p) for p in origin.parameters() if p.dim() >= 2 and "bias" not in name)


def _layout(module: nn.Module) -> bool:
    """Experts whose class says how its 3-D parameters lie (``transformers``' ``use_experts_implementation``)."""
    said = ("has_gate", "has_bias", "is_transposed", "num_experts", "_apply_gate")
    if not all(hasattr(module, name) for name in said):
        return False
    names = {"gate_up_proj" if module.has_gate else "up_proj", "down_proj"}
    return {name for name, _ in _computed(module)} == names


__all__ = [
    "KINDS",
    "REFUSED",
    "Kind",
    "MatrixShape",
    "active",
    "class_name",
    "gemms",
    "is_first",
    "is_quantized",
    "kind_of",
    "matrices",
    "plain_class",
    "refusal",
    "remark",
    "routed",
]
