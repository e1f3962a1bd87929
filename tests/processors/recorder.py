"""What is called, as torch's dispatcher sees it: below ``vmap``, so on whole stacks of members."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dse.kernels.alignment import ALIGNMENT
from tests.processors.operations import PROBED, PRODUCTS


class Recorder(TorchDispatchMode):
    """``names``: operation -> where it was called first; ``calls``: of the probed ones, each kind of call once.

    ``astray``: products whose operands do not lie as ``dse.kernels.alignment`` lets them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.where, self.complete = "", False
        self.names: dict[str, str] = {}
        self.calls: dict[Any, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {}
        self.astray: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name.split("::")[1], kwargs or {}
        self.names.setdefault(name, self.where)
        if name in PRODUCTS and (wrong := [x for x in args if isinstance(x, Tensor) and not lies_well(x)]):
            self.astray.append(
                f"{self.where}: {func} {[(tuple(x.shape), x.stride(), x.data_ptr() % 64) for x in wrong]}"
            )
        if name in PROBED:
            kind = str([func, *map(kind_of, (*args, *kwargs.values()))])
            if kind not in self.calls:
                kept = [x.clone() if isinstance(x, Tensor) and not x.is_floating_point() else x for x in args]
                self.calls[kind] = func, tuple(kept), kwargs
        return func(*args, **kwargs)


def lies_well(x: Tensor) -> bool:
    turned = x if x.is_contiguous() else x.mT
    return x.data_ptr() % ALIGNMENT == 0 and turned.stride() == torch.empty(turned.shape).stride()


def kind_of(x: Any) -> Any:
    return (tuple(x.shape), x.stride(), x.dtype) if isinstance(x, Tensor) else x
