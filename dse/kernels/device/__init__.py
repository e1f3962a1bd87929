"""The device side, in Triton. Import it only where ``dse.kernels.available()``.

Importing it gives every function here its key in Triton's cache, in one fixed order. Triton computes a function's key
when it is first asked for, and what goes into it depends on whether the functions that it calls had theirs by then
(Triton 3.6, ``DependenciesFinder._update_hash``). Processes that compile the same kernels in different orders, as those
of ``dse.kernels.compile_pool`` do, would otherwise not find each other's results.
"""

from importlib import import_module
from pkgutil import iter_modules

from triton.runtime.jit import JITFunction


def _name_functions() -> None:
    """Under Triton's interpreter there are none that have keys."""
    for name in sorted(module.name for module in iter_modules(__path__)):
        module = import_module(f"{__name__}.{name}")
        for function in vars(module).values():
            if isinstance(function, JITFunction) and function.fn.__module__ == module.__name__:
                function.cache_key  # noqa: B018 - computed once, and kept


_name_functions()
