"""Which kernels a computation needs, found without a GPU: it runs on tensors of the device 'meta', which have shapes
and strides but no numbers, and its launches are noted instead of made.

Triton compiles a kernel anew for every combination of constants, types and divisibilities by 16 (``KernelJob``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from dse.kernels.availability import Gpu, StandIn, address
from dse.kernels.kernel_jobs import KernelJob, KernelName

OnKernel = Callable[[KernelJob], None]
_WARP = 32


class _Seen:
    """What Triton looks at in a tensor: type and address."""

    def __init__(self, x: Tensor) -> None:
        self.dtype, self.shape, self._strides, self._address = x.dtype, x.shape, x.stride(), address(x)

    def data_ptr(self) -> int:
        return self._address

    def stride(self) -> tuple[int, ...]:
        return self._strides


class _Recorder:
    def __init__(self, gpu: Gpu, on_kernel: OnKernel) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.compiler.compiler import make_backend

        major, minor = gpu.capability
        self._target, self._on_kernel = ("cuda", 10 * major + minor, _WARP), on_kernel
        self._backend = make_backend(GPUTarget(*self._target))
        self._binders: dict[Any, Callable[..., Any]] = {}
        self._keys: dict[Any, dict[Any, Any]] = {}
        self._known: set[Any] = set()

    def note(self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Of a launch of ``function``: as ``triton.JITFunction.run`` begins."""
        from triton import knobs
        from triton.runtime.jit import compute_cache_key, create_function_from_signature

        named = {name: _seen(value) for name, value in named.items()}
        named["debug"] = named.get("debug", function.debug) or knobs.runtime.debug
        named["instrumentation_mode"] = knobs.compilation.instrumentation_mode
        if function not in self._binders:
            self._binders[function] = create_function_from_signature(function.signature, function.params, self._backend)
        bound, specialization, options = self._binders[function](*map(_seen, arguments), **named)
        key = function, compute_cache_key(self._keys.setdefault(function, {}), specialization, options)
        if key in self._known:
            return
        self._known.add(key)
        options, signature, constants, attributes = function._pack_args(
            self._backend, named, bound, specialization, options
        )
        named_constants = {at: _named(value) for at, value in constants.items()}
        self._on_kernel(KernelJob(_name(function), signature, named_constants, attributes, vars(options), self._target))


@contextmanager
def recording(gpu: Gpu, on_kernel: OnKernel) -> Iterator[None]:
    """Inside, Triton launches nothing in this process; each kernel that would have to be compiled for ``gpu`` is handed
    to ``on_kernel`` once, at its first launch. Raises RuntimeError where launches are being recorded already.
    """
    from triton.runtime.jit import JITFunction

    if StandIn.gpu is not None:
        raise RuntimeError("launches are being recorded already")
    recorder, launch = _Recorder(gpu, on_kernel), JITFunction.run

    def run(function: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        recorder.note(function, arguments, named)

    StandIn.gpu, JITFunction.run = gpu, run
    try:
        yield
    finally:
        StandIn.gpu, JITFunction.run = None, launch


def _seen(value: Any) -> Any:
    from triton.tools.tensor_descriptor import TensorDescriptor

    if isinstance(value, TensorDescriptor):
        value.base = _seen(value.base)
        return value
    return _Seen(value) if isinstance(value, Tensor) else value


def _name(function: Any) -> KernelName:
    return KernelName(function.fn.__module__, function.fn.__qualname__)


def _named(value: Any) -> Any:
    from triton.runtime.jit import JITCallable

    return _name(value) if isinstance(value, JITCallable) else value


__all__ = ["OnKernel", "recording"]
