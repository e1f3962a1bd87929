"""Triton's interpreter with its slowest parts replaced: the same bits in less time.

- A reduction with a combine function of one's own folds whole slices in the same order, not one number at a time
  (so that its function must not branch on values, which none in ``dse`` does).
- The NumPy type of a Triton type is looked up, in place of a table made anew at every operation.
- The builtin functions of ``triton.language`` are found once, and replaced once per launch, in place of at every call
  of a function of the device.
- What a tensor says of its shape is made once per shape.
- Overflow of whole numbers is not looked for: Triton's own does so and drops what it finds, except for debugging.
``tests/kernels/test_faster_interpreter.py`` compares it with the interpreter as it comes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter


def install() -> None:
    """For this process. What another release of Triton does not have raises AttributeError."""
    interpreter._get_np_dtype = partial(_numpy_type, interpreter._get_np_dtype, {})
    builtins_of = cache(lambda package: [(n, m) for n, m in inspect.getmembers(package) if tl.core.is_builtin(m)])
    interpreter._patch_builtin = partial(_patch, interpreter._patch_attr, builtins_of)
    assert callable(interpreter.ReduceOps.generic_reduce)
    interpreter.ReduceOps.generic_reduce = _fold
    builder = interpreter.interpreter_builder
    assert not builder.options.debug
    builder.options = replace(builder.options, sanitize_overflow=False)
    places = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})  # all that a function of the device may name
    interpreter._patch_lang = partial(_everywhere, interpreter._patch_lang, places)
    assert callable(interpreter.InterpretedFunction.__call__)
    interpreter.InterpretedFunction.__call__ = _called
    assert callable(tl.core.tensor.__init__)
    tl.core.tensor.__init__ = _made
    tl.core.block_type.__init__ = _block_with(tl.core.block_type.__init__)


def _numpy_type(own: Callable[[Any], Any], known: dict[str, Any], kind: Any) -> Any:
    name = (kind.element_ty if isinstance(kind, tl.block_type) else kind).name
    if name not in known:
        known[name] = own(kind)
    return known[name]


def _patch(one: Callable[..., None], builtins_of: Callable[[Any], Any], package: Any, builder: Any, scope: Any) -> None:
    for name, member in builtins_of(package):
        one(package, name, member, builder, scope)


def _everywhere(own: Callable[[Any], Any], places: Any, function: Any) -> Any:
    """``_patch_lang`` for this and all functions that are called inside."""
    return own(places)


def _called(self: Any, *args: Any, **options: Any) -> Any:
    """``InterpretedFunction.__call__`` inside of a launch, which has replaced the builtin functions."""
    function = self.rewrite()
    try:
        return function(*args, **options)
    except Exception as error:
        raise interpreter.InterpreterError(repr(error)) from error


@cache
def _shape(sizes: tuple[int, ...]) -> tuple[Any, Any]:
    return tl.constexpr(math.prod(sizes)), tl.core.tuple([tl.constexpr(size) for size in sizes])


def _made(self: Any, handle: Any, type: Any) -> None:  # noqa: A002 - its name there
    """``tensor.__init__``."""
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.numel, self.shape = _shape(tuple(type.shape) if type.is_block() else ())


def _block_with(own: Callable[..., None]) -> Callable[..., None]:
    known: dict[Any, dict[str, Any]] = {}

    def made(self: Any, element_ty: Any, shape: Any) -> None:
        """``block_type.__init__``."""
        key = element_ty.name, tuple(size.value if isinstance(size, tl.constexpr) else size for size in shape)
        if key not in known:
            own(self, element_ty, shape)
            known[key] = dict(vars(self))
        vars(self).update(known[key], element_ty=element_ty)

    return made


def _fold(self: Any, operands: Any) -> list[Any]:
    """``ReduceOps.generic_reduce``: the first slice combined with the second, that with the third ..."""
    whole, (operands, axis) = self.axis is None, self.unravel(operands, self.axis)
    shape, kinds = operands[0].handle.data.shape, [one.dtype for one in operands]
    rest = shape[:axis] + shape[axis + 1 :]

    def slices(i: int) -> list[Any]:
        return [self.to_tensor(np.take(x.handle.data, i, axis), k) for x, k in zip(operands, kinds, strict=True)]

    total = slices(0)
    for i in range(1, shape[axis]):
        made = self.combine_fn.fn(*total, *slices(i))
        total = []
        for value, x, kind in zip(made if isinstance(made, tuple) else (made,), operands, kinds, strict=True):
            data = np.asarray(value.handle.data if isinstance(value, tl.core.tensor) else value)
            data = data.astype(x.handle.data.dtype)
            total.append(self.to_tensor(np.broadcast_to(data.reshape(()) if data.size == 1 else data, rest), kind))
    found = []
    for one, kind in zip(total, kinds, strict=True):
        data = one.handle.data.reshape(rest)
        if self.keep_dims:
            data = data.reshape([1] * len(shape)) if whole else np.expand_dims(data, axis)
        elif whole:
            data = data.item()
        found.append(self.to_tensor(data, kind))
    return found
