"""Functions in a task's own code whose bits depend on an element's place in memory, or on the width of the pack.

Where a library computes the last elements of a tensor by another routine than the rest, or one product for all
members, a trial in a pack may get other last bits than alone. The tasks of this project avoid such functions; a user's
own task may not.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dse.pack.step import TrainStep

FUNCTIONS = frozenset(
    {
        "atan2",
        "celu",
        "cosh",
        "elu",
        "exp2",
        "float_power",
        "gelu",
        "glu",
        "mish",
        "selu",
        "sigmoid",
        "silu",
        "sinh",
        "softplus",
    }
)
"""Functions whose last elements take another routine, on x86-64 with AVX2 or AVX-512."""
POWERS = frozenset({"__ipow__", "__pow__", "__rpow__", "pow"})
"""Functions for which this holds unless the exponent is one of ``PLAIN``."""
PLAIN = frozenset({-2, -1, -0.5, 0, 0.5, 1, 2, 3})
PRODUCTS = frozenset(
    {
        "__matmul__",
        "__rmatmul__",
        "addbmm",
        "addmm",
        "addmv",
        "baddbmm",
        "bilinear",
        "bmm",
        "cdist",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "dot",
        "einsum",
        "gru",
        "inner",
        "linear",
        "lstm",
        "matmul",
        "mm",
        "multi_head_attention_forward",
        "mv",
        "rnn_relu",
        "rnn_tanh",
        "scaled_dot_product_attention",
        "tensordot",
    }
)
"""Products that a library computes for all members at once, but for those of ``nn.Linear`` and ``nn.Conv2d``."""


class _CallWatcher(TorchFunctionMode):
    """Notes the names of such functions where they are called on members' tensors, under ``vmap``."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        plain = name.rstrip("_") if not name.startswith("__") else name
        operands = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if any(torch._C._functorch.is_batchedtensor(x) for x in operands) and _depends(plain, args, kwargs):
            self.found.add(plain.strip("_"))
        return func(*args, **kwargs)


def _depends(name: str, args: Any, kwargs: Any) -> bool:
    if name in POWERS:
        exponent = args[1] if len(args) > 1 else kwargs.get("exponent")
        return name == "__rpow__" or isinstance(exponent, Tensor) or exponent not in PLAIN
    return name in FUNCTIONS or name in PRODUCTS


def depends_on_place(train_step: TrainStep) -> list[str]:
    """The names of such functions in a pack's loss and measures, on the CPU, sorted; computed once for each task.

    Runs one loss and one measure without changing any state. Empty for this project's tasks, which are tested for it.
    """
    task = train_step.task
    if train_step.pack.device.type != "cpu" or type(task).__module__.startswith("dse.tasks."):
        return []
    key = (type(task), repr(task))
    if key not in _known():
        _known()[key] = _watched(train_step)
    return _known()[key]


@cache
def _known() -> dict[Any, list[str]]:
    return {}


def _watched(train_step: TrainStep) -> list[str]:
    with torch.no_grad(), _CallWatcher() as watch:
        train_step.objective(sampling=False)
        for batch in train_step.task.held_out(train_step.data)[:1]:
            train_step.pack.measure(batch)
    return sorted(watch.found)


__all__ = ["depends_on_place"]
