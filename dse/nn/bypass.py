"""Finds code that multiplies by a quantized layer's weight itself instead of calling the layer, by running the model.

Fused kernels, tied heads that call ``F.linear(x, embedding.weight)`` and the like leave a layer quantized in name only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dse.nn.kinds import is_quantized, matrices
from dse.nn.select import holders
from dse.numerics import linear_autograd, linear_gemms

_PRODUCTS = {
    "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "linear", "convolution", "_grouped_mm", "_scaled_mm",
    "_transformer_encoder_layer_fwd", "_native_multi_head_attention", "_addmm_activation", "mkldnn_convolution",
}  # fmt: skip
_COPIES = {"_to_copy", "clone", "contiguous", "copy", "cat", "stack", "index", "index_select"}
_OWN = (linear_gemms.__file__, linear_autograd.__file__)


def bypassed(model: Callable[..., Any], *inputs: Any, **options: Any) -> dict[str, str]:
    """The quantized layers whose weights enter a product outside of the layer, and which, in ``model(*inputs)``.

    Runs the forward pass once as it stands (training or evaluation, with or without gradients); casts and copies of a
    weight count as the weight. A weight shared with a layer that is not quantized, such as a tied head, is named too.
    """
    assert isinstance(model, nn.Module)
    owners: dict[int, str] = {}
    for name, module in holders(model):
        if is_quantized(module):
            for _, p in matrices(module, inside=True):
                owners.setdefault(_storage(p), name)
    watch = _ProductWatcher(owners)
    with watch:
        model(*inputs, **options)
    return watch.found


class _ProductWatcher(TorchDispatchMode):
    """``owners``: the layer of each weight's storage; grows by the copies that are made."""

    def __init__(self, owners: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owners, self.found, self.copies = owners, dict[str, str](), list[Tensor]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        operation = func.overloadpacket.__name__
        if operation not in _PRODUCTS and operation not in _COPIES:
            return out
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        names = [self.owners[_storage(t)] for t in tensors if _storage(t) in self.owners]
        if names and not _inside():
            if operation in _PRODUCTS:
                self.found.update(dict.fromkeys(names, operation))
            elif isinstance(out, Tensor):
                self.owners.setdefault(_storage(out), names[0])
                self.copies.append(out)  # alive, so that no other tensor takes its address
        return out


def _inside() -> bool:
    """Whether a quantized product is being computed."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename in _OWN:
            return True
        frame = frame.f_back
    return False


def _storage(tensor: Tensor) -> int:
    return 0 if tensor.device.type == "meta" else int(tensor.untyped_storage().data_ptr())


__all__ = ["bypassed"]
