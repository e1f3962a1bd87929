"""The compiled loops of the CPU: whether they are in use, and where their machine code is kept.

``dse/kernels/loops`` holds them. They give the bits of plain torch, so nothing but time depends on whether they run:
Numba may be missing, and small work is not worth loading them for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

_LOADED_FROM = 1.0
"""Seconds of plain torch after which loading pays: it takes .5 s, and 4 s where nothing is cached yet."""
_UNCACHED_FROM = 10.0
"""The same where no folder can be written, so that every process compiles."""
_CALL, _ELEMENT = 2e-4, 2e-8
"""Seconds that plain torch takes to quantize an operand, and for each of its elements: measured on an AMD EPYC."""
_LOOPS, _MODULES = "dse.kernels.loops", ("philox_loops", "block_loops", "choice_loops", "hadamard_loops")
_loading = Lock()


class _State:
    """``spent``: seconds of plain torch, estimated; ``on``: None while it is open whether the loops are used."""

    spent = 0.0
    on: bool | None = None
    why_not = ""


def takes(x: Tensor) -> bool:
    """Whether a compiled loop computes a function of x: float32 numbers on the CPU, none of whose gradients is wanted.

    Counts as work of that size where it is still open whether the loops are loaded.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()):
        return False
    return ready(x.numel()) and readable(x)


def ready(count: int = 0) -> bool:
    """Whether the loops are loaded; ``count``: elements that would be worked on, in favor of loading them."""
    if _State.on is not None:
        return _State.on
    _State.spent += _CALL + _ELEMENT * count
    if _State.spent < _LOADED_FROM or (_State.spent < _UNCACHED_FROM and cache_folder() is None):
        return False
    return load()


def load() -> bool:
    """Loads the loops now, and tells whether they can be used; ``why_not`` says why they cannot."""
    with _loading:
        if _State.on is None:
            _State.why_not = _loaded()
            _State.on = not _State.why_not
    return _State.on


def in_use() -> bool:
    """Whether the loops have been loaded and are on."""
    return bool(_State.on)


def why_not() -> str:
    """Why the loops cannot be used; '' where they can, or where nobody has tried."""
    return _State.why_not


@contextmanager
def switched_off() -> Iterator[None]:
    """Within it everything is computed in plain torch, the specification."""
    before, _State.on = _State.on, False
    try:
        yield
    finally:
        _State.on = before


def loops(name: str) -> Any:
    """The module of that name in ``dse.kernels.loops``, once ``ready`` is true."""
    return sys.modules[f"{_LOOPS}.{name}"]


def _loaded() -> str:
    """Compiles the loops, or reads them from the cache; '' or why they cannot be used."""
    if sys.byteorder != "little":
        return "random bits are read from memory in little-endian order"
    if find_spec("numba") is None:
        return "Numba is not installed: pip install 'fp4-dse[cpu]'"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return "NUMBA_DISABLE_JIT is set"
    folder = cache_folder()
    try:
        try:
            _compile(folder)
        except Exception:
            if folder is None:
                raise
            shutil.rmtree(folder, ignore_errors=True)  # a file that a crash left behind, or a full disk
            _compile(None)
    except Exception as error:  # noqa: BLE001 - a NumPy that Numba does not know, say: plain torch computes the same
        return f"{type(error).__name__}: {error}"
    return ""


def _compile(folder: Path | None) -> None:
    """Numba keeps machine code in ``folder``, which is of these very sources: itself it looks at one file's date."""
    config: Any = import_module("numba").config
    before, config.CACHE_DIR = config.CACHE_DIR, "" if folder is None else str(folder)
    try:
        for name in _MODULES:
            import_module(f"{_LOOPS}.{name}")
    finally:
        config.CACHE_DIR = before


@cache
def cache_folder() -> Path | None:
    """Where machine code is kept: in $XDG_CACHE_HOME/dse/loops or ~/.cache/dse/loops; None where nothing can be."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "loops").glob("*.py")):
        digest.update(path.read_bytes())
    with suppress(OSError, RuntimeError):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dse" / "loops"
        folder = base / digest.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return None


def readable(x: Tensor) -> bool:
    """Whether x has numbers of its own that NumPy can read, and no other thing that looks at the operations on it."""
    if type(x) not in (Tensor, Parameter) or torch.compiler.is_compiling() or x.is_neg():
        return False
    try:
        x.data_ptr()
    except RuntimeError:  # under a transform of torch.func
        return False
    return True


__all__ = ["cache_folder", "in_use", "load", "loops", "readable", "ready", "switched_off", "takes", "why_not"]
