"""What ``torch.compile`` leaves alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])
REASON = "the emulated arithmetic is exact operation by operation, and a compiler may fuse, reorder and contract it"


def uncompiled(function: F) -> F:
    """A function that runs eagerly inside a compiled model, so that its bits are the same: one graph break a call.

    With ``fullgraph=True`` the compiler refuses and gives the reason. Where it is not imported, nothing is compiled.
    """

    @wraps(function)
    def inner(*args: Any, **options: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **options)
        disabled = getattr(function, "_uncompiled", None)
        if disabled is None:
            disabled = torch.compiler.disable(function, reason=REASON)
            function._uncompiled = disabled  # type: ignore[attr-defined]
        return disabled(*args, **options)

    return inner  # type: ignore[return-value]


__all__ = ["uncompiled"]
