"""A kernel as it has to be compiled for a launch: data that another process can compile, into Triton's own cache."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from subprocess import CalledProcessError
from typing import Any, NamedTuple


class KernelName(NamedTuple):
    """A function of Triton code by its module and name."""

    module: str
    name: str

    def load(self) -> Any:
        """The function itself."""
        return getattr(importlib.import_module(self.module), self.name)


@dataclass(frozen=True)
class KernelJob:
    """``signature``: parameter -> type; ``constants``, ``attributes``: of parameters, by their place; ``options``:
    Triton's for the compilation; ``target``: the kind of GPU ('cuda', 90 and 32 for sm_90). Functions among the
    constants are names.
    """

    kernel: KernelName
    signature: Mapping[str, Any]
    constants: Mapping[tuple[int, ...], Any]
    attributes: Mapping[tuple[int, ...], Any]
    options: Mapping[str, Any]
    target: tuple[str, int, int]

    @cached_property
    def key(self) -> str:
        """Triton's name for the result in its cache: two jobs of one key are the same compilation."""
        from triton._C.libtriton import get_cache_invalidating_env_vars
        from triton.compiler.compiler import make_backend
        from triton.runtime.cache import get_cache_key

        backend = make_backend(self._target())
        options = backend.parse_options(dict(self.options))
        key = get_cache_key(self._source(), backend, options, env_vars=get_cache_invalidating_env_vars())
        return hashlib.sha256(key.encode()).hexdigest()

    def is_compiled(self) -> bool:
        """Whether the result is in the cache."""
        from triton.runtime.cache import get_cache_manager

        name = f"{self.kernel.name[:150]}.json"
        return name in (get_cache_manager(self.key).get_group(name) or {})

    def compile(self) -> None:
        """Compiles the kernel without a GPU, and the C code that launches it where CUDA is; both are kept in the cache.

        Raises what the compilers raise.
        """
        import triton

        compiled = triton.compile(self._source(), target=self._target(), options=dict(self.options))
        if self.target[0] == "cuda" and _has_cuda():
            from triton.backends.nvidia.driver import CudaLauncher

            CudaLauncher(compiled.src, compiled.metadata)

    def _source(self) -> Any:
        from triton.compiler import ASTSource

        constants = {at: v.load() if isinstance(v, KernelName) else v for at, v in self.constants.items()}
        return ASTSource(self.kernel.load(), dict(self.signature), constants, dict(self.attributes))

    def _target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget(*self.target)


@cache
def _has_cuda() -> bool:
    """Whether this machine has CUDA's driver, which code that launches kernels is linked with."""
    from triton.backends.nvidia.driver import library_dirs

    try:
        return bool(library_dirs())
    except (AssertionError, OSError, CalledProcessError):  # as it says that there is none
        return False
