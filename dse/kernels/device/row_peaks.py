"""The largest magnitudes of an operand's rows, for outer scales of rows: behind its rotation, and of tiles of rows."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.block_quantizer import FLOATS, INTS
from dse.kernels.device.peaks import tile_peaks
from dse.kernels.device.quantize import SIGN_WORDS


@triton.jit(do_not_specialize=["chunks", "programs", "padded"])
def row_peaks_kernel(
    source, source_e, source_r, source_k, R, K, padded, matrices, peaks, int_table, float_table, signs, signs_n,
    chunks, programs, ACROSS: tl.constexpr, RUN: tl.constexpr, P: tl.constexpr, INNER: tl.constexpr,
    LOOPS: tl.constexpr, ROTATES: tl.constexpr, STAGES: tl.constexpr, FIT: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """peaks int32 [E, R], zeros before: at r the bits of the largest magnitude of the r-th tile of rows.

    source [E, R, K] (ACROSS: K contiguous rows of R) is read in tiles of P groups of 16, LOOPS of them in a program,
    ``chunks`` programs along K; ``padded``: K up to the widest rotation.
    """
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs
    member = e // matrices
    size = tl.load(int_table + member * INTS + 1)
    tall = tl.minimum(tl.load(int_table + member * INTS + 3), R)
    factor = tl.load(float_table + member * FLOATS + 9)
    ROWS: tl.constexpr = INNER if ACROSS else P // INNER
    GROUPS: tl.constexpr = P // ROWS
    first_row = at // chunks * ROWS
    largest = tl.full((P,), 0, tl.int32)
    for i in range(LOOPS):
        first_group = (at % chunks * LOOPS + i) * GROUPS
        if first_group * 16 < padded:
            z, _ = tile_peaks(
                source + e * source_e, signs + e // signs_n * SIGN_WORDS, first_row, first_group, R, K, source_r,
                source_k, size, factor, ACROSS, RUN, P, INNER, ROTATES, STAGES, False, -1, False, FIT, INTERPRET,
            )  # fmt: skip
            largest = tl.maximum(largest, z)
    if ACROSS:
        top = tl.max(tl.reshape(largest, (GROUPS, ROWS)), 0)
    else:
        top = tl.max(tl.reshape(largest, (ROWS, GROUPS)), 1)
    row = first_row + tl.arange(0, ROWS)
    tl.atomic_max(peaks + e * R + row // tall, top, row < R, sem="relaxed")
