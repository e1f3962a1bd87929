"""Counts the arithmetic of the plain-torch reference as it runs: operations per element of a small operand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dse.kernels import cpu_loops

ARITHMETIC = {
    "abs", "add", "amax", "bitwise_and", "bitwise_or", "ceil", "clamp", "clamp_max", "clamp_min", "copysign", "div",
    "eq", "exp", "floor", "ge", "gt", "isinf", "isnan", "le", "log", "lt", "mul", "nan_to_num", "neg", "pow",
    "reciprocal", "round", "sign", "sqrt", "sub", "sum", "trunc", "where", "__lshift__", "__rshift__", "index",
}  # fmt: skip
"""Operators that are counted, in place or not; views, copies and constants are not."""
INSTRUCTIONS = {
    "cast": ("dse.numerics.block.cast",),
    "exp": ("dse.numerics.techniques.slopes.sigmoid.exp", "dse.numerics.techniques.slopes.dge.exp"),
    "log": ("dse.numerics.techniques.slopes.dge.log",),
}
"""What hardware does in one instruction -> the functions of the reference that do it in many operations."""


class Tracer(TorchDispatchMode):
    """Sums operations over the elements of the largest tensor of each; ``instructions`` count as one."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, int]] = Counter()
        self._inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if not self._inside and (name if name in ARITHMETIC else name.rstrip("_")) in ARITHMETIC:
            self.note(name, (args, out))
        return out

    def note(self, name: str, tensors: Any) -> None:
        sizes = [leaf.numel() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)]
        self.counts[name, max(sizes, default=0)] += 1

    def instruction(self, name: str, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The function as one operation."""

        def counted(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self.note(name, x)
            self._inside, was = True, self._inside
            try:
                return plain(x, *args, **kwargs)
            finally:
                self._inside = was

        return counted

    def per_element(self, elements: int) -> float:
        """Operations over more than half of the elements, per element: what counts per block is left out."""
        return sum(times * size / elements for (_, size), times in self.counts.items() if 2 * size > elements)

    def per_block(self, blocks: int) -> float:
        """Operations on one number per block."""
        return sum(times for (_, size), times in self.counts.items() if size == blocks)


@contextmanager
def traced(*instructions: str) -> Iterator[Tracer]:
    """Counts what runs inside, with the named instructions as one operation each."""
    tracer = Tracer()
    with ExitStack() as stack:
        stack.enter_context(cpu_loops.switched_off())
        for name in instructions:
            for place in INSTRUCTIONS[name]:
                module, _, attribute = place.rpartition(".")
                plain = getattr(__import__(module, fromlist=[attribute]), attribute)
                stack.enter_context(patch(place, tracer.instruction(name, plain)))
        stack.enter_context(torch.no_grad())
        stack.enter_context(tracer)
        yield tracer


__all__ = ["traced"]
