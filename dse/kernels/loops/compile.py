"""How the loops are compiled, and the bits of a float32 as an integer."""
# mypy: ignore-errors

from llvmlite import ir
from numba import carray, config, float32, int32, int64, njit, types
from numba.extending import intrinsic

HOW = {"nogil": True, "error_model": "numpy"}
"""Without Python's lock; a division by zero gives infinity, as in torch."""

inner = njit(**HOW, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions that loops call: part of their machine code."""


def loop(signature):
    """For loops that are called from Python: compiled when their module is imported, or read from the cache."""
    return njit(signature, cache=bool(config.CACHE_DIR), no_cfunc_wrapper=True, **HOW)


@intrinsic
def bits_of(context, x):
    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return int32(float32), code


@intrinsic
def float_of(context, i):
    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return float32(int32), code


@intrinsic
def _pointer(context, address, like):
    element = types.CPointer(like.dtype)

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(element))

    return element(int64, like), code


@inner
def floats(address, shape):
    """The float32 numbers at an address, as a contiguous array."""
    return carray(_pointer(address, float32), shape)


@inner
def integers(address, shape):
    """The int64 numbers at an address, as a contiguous array."""
    return carray(_pointer(address, int64), shape)
