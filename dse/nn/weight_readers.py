"""Which modules read a layer's weight in their own code, where they would go around a quantized layer.

Fused kernels take weights as arguments (Mamba's mixers), and some heads multiply by a slice of one. That is seen in the
source of the class that holds the layer: ``self.conv1d.weight``, but for its dtype, device and the like.
"""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from typing import Any

from torch import nn

_READ = re.compile(
    r"(?<!isinstance\()self\.([\w.]+)\.weight\b"
    r"(?!\.(?:dtype|device|shape|size|numel|dim|ndim|is_\w+|requires_grad|layout|grad))(?!\s*=[^=])"
)
_NOT_COMPUTING = re.compile(r"init|reset|tie|^get_|^set_|repr|load|resize|prune|convert|weight_norm|parametri")
_LIBRARIES = ("torch.", "dse.", "builtins")


def readers(model: nn.Module) -> dict[str, tuple[str, bool]]:
    """By the layer's name: the class and method that read its weight, and whether the class calls the layer as well."""
    found: dict[str, tuple[str, bool]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for path, method, calls in _reads(type(module)):  # type: ignore[arg-type]
            found.setdefault(f"{name}.{path}" if name else path, (method, calls))
    return found


@lru_cache(maxsize=4096)
def _reads(owner: Any) -> tuple[tuple[str, str, bool], ...]:
    """(path of the layer, the class's method that reads its weight, whether some method calls the layer)."""
    sources: dict[str, str] = {}
    for kind in owner.__mro__:
        if not kind.__module__.startswith(_LIBRARIES):
            for name, function in vars(kind).items():
                if inspect.isfunction(function) and not _NOT_COMPUTING.search(name):
                    sources.setdefault(name, _source(function))
    everything = "\n".join(sources.values())
    return tuple(
        (path, f"{owner.__name__}.{name}", f"self.{path}(" in everything)
        for name, source in sources.items()
        for path in dict.fromkeys(_READ.findall(source))
    )


def _source(function: Any) -> str:
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return ""


__all__ = ["readers"]
