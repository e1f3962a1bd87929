"""a b^T of every member through tensor descriptors (TMA copies): the same sums in the same order as ``product_kernel``.

Descriptors have the axes [E, rows, K], or [E, K, rows] where an operand lies transposed; what is beyond an operand's
edges is read as zero, and not written. Operands in three parts (``dse.kernels.split``) are [3 * E, rows, K]; pairs of
parts are multiplied one after the other, the smallest first: six of two such operands, three beside a BF16 operand.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.bf16 import stored, to_bf16
from dse.kernels.device.factors import in_row, with_group


@triton.jit
def place(tile, tiles_m, tiles_n, GROUP: tl.constexpr):
    """Row and column of a tile: GROUP rows of tiles are walked together, so that their operands stay in the cache."""
    width = GROUP * tiles_n
    first = tile // width * GROUP
    size = min(tiles_m - first, GROUP)
    return first + tile % width % size, tile % width // size


@triton.jit
def pair(i, steps, A_PARTS: tl.constexpr, B_PARTS: tl.constexpr):
    """The parts of both operands in step ``i``, and the step along the contraction axis."""
    if A_PARTS == 1 and B_PARTS == 1:
        return 0, 0, i
    which = i // steps
    if A_PARTS == 1:
        return 0, 2 - which, i % steps
    if B_PARTS == 1:
        return 2 - which, 0, i % steps
    return (0x052 >> which * 2) & 3, (0x118 >> which * 2) & 3, i % steps


@triton.jit
def operand(
    x, e, r, k, R: tl.constexpr, K: tl.constexpr, TURNED: tl.constexpr, SWAP: tl.constexpr, INTERPRET: tl.constexpr
):
    """The block [R, K] of one member, or with SWAP its transpose."""
    if TURNED:
        block = tl.reshape(x.load([e, k, r]), [K, R])
        if not SWAP:
            block = block.T
    else:
        block = tl.reshape(x.load([e, r, k]), [R, K])
        if SWAP:
            block = block.T
    if INTERPRET:  # which multiplies the bits of BF16 numbers
        block = block.to(tl.float32)
    return block


@triton.jit
def step(
    x, y, total, factors, factors2, m, n, k, M, N, K, BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
    GROUP_A: tl.constexpr, GROUP_B: tl.constexpr,
):  # fmt: skip
    """``total`` plus the product of two blocks, from ``m``, ``n`` and ``k`` on, with the factors of its group."""
    if GROUP_A <= 0 and GROUP_B <= 0:
        return tl.dot(x, y, total, input_precision=PRECISION)
    share = tl.dot(x, y, input_precision=PRECISION)
    rows, columns = m + tl.arange(0, BM), n + tl.arange(0, BN)
    return with_group(total, share, factors, factors2, rows, columns, k, M, N, K, GROUP_A, GROUP_B)


@triton.jit
def finish(
    total, out, slot, e, m, n, M, N, alpha, alpha2, bias, bias_e, factors, factors2,
    BM: tl.constexpr, BN: tl.constexpr, SCALES: tl.constexpr, BIAS: tl.constexpr, GROUP_A: tl.constexpr,
    GROUP_B: tl.constexpr, OUT: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Factors, bias, rounding, and the copy into ``out`` [slots, M, N].

    OUT: 0, by pointers, 1, by a descriptor, 2, by one in two steps, for less memory.
    """
    rows = m + tl.arange(0, BM)
    total = in_row(total, factors, factors2, rows[:, None], (n + tl.arange(0, BN))[None, :], M, N, GROUP_A, GROUP_B)
    if SCALES > 0:
        scale = tl.load(alpha + e)
        if SCALES == 2:
            scale = scale * tl.load(alpha2 + e)
        total = total * scale
    columns = n + tl.arange(0, BN)
    if BIAS:
        total += tl.load(bias + e.to(tl.int64) * bias_e + columns, mask=columns < N, other=0.0)[None, :]
    if OUT == 0:
        r, c = tl.arange(0, BM)[:, None], tl.arange(0, BN)[None, :]
        at = out + (slot.to(tl.int64) * M + m) * N + n + (r * N + c)
        tl.store(at, stored(total, out, INTERPRET), mask=(r < M - m) & (c < N - n))
    else:
        if out.dtype == tl.bfloat16:
            rounded = to_bf16(total, INTERPRET)
        else:
            rounded = total
        if OUT == 2:
            left, right = tl.split(tl.permute(tl.reshape(rounded, [BM, 2, BN // 2]), [0, 2, 1]))
            out.store([slot, m, n], tl.reshape(left, [1, BM, BN // 2]))
            out.store([slot, m, n + BN // 2], tl.reshape(right, [1, BM, BN // 2]))
        else:
            out.store([slot, m, n], tl.reshape(rounded, [1, BM, BN]))


@triton.jit(
    do_not_specialize=[
        "bias_e",
        "factors_e",
        "factors2_e",
        "M",
        "N",
        "K",
        "share",
        "tiles_m",
        "tiles_n",
        "members",
        "parts",
    ]
)
def tile_kernel(
    a, b, out, alpha, alpha2, bias, bias_e, factors, factors_e, factors2, factors2_e, M, N, K, share,
    tiles_m, tiles_n, members, parts,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, A_TURNED: tl.constexpr, B_TURNED: tl.constexpr,
    GROUP: tl.constexpr, A_PARTS: tl.constexpr, B_PARTS: tl.constexpr, PRECISION: tl.constexpr, SCALES: tl.constexpr,
    BIAS: tl.constexpr, GROUP_A: tl.constexpr, GROUP_B: tl.constexpr, OUT: tl.constexpr, INTERPRET: tl.constexpr,
    STEPS: tl.constexpr,
):  # fmt: skip
    """One tile [BM, BN] of one member over ``share`` elements of the contraction axis, summed in order.

    STEPS: in the interpreter, pairs * share / BK.
    """
    PAIRS: tl.constexpr = 6 if A_PARTS * B_PARTS == 9 else A_PARTS * B_PARTS
    part, e = tl.program_id(1), tl.program_id(2)
    factors += e.to(tl.int64) * factors_e
    factors2 += e.to(tl.int64) * factors2_e
    row, column = place(tl.program_id(0), tiles_m, tiles_n, GROUP)
    m, n = row * BM, column * BN
    start = part * share
    total = tl.zeros([BM, BN], tl.float32)
    steps = tl.cdiv(share, BK)
    for i in range(STEPS if INTERPRET else PAIRS * steps):  # in the interpreter, loops have constant bounds
        p, q, k = pair(i, steps, A_PARTS, B_PARTS)
        x = operand(a, p * members + e, m, start + k * BK, BM, BK, A_TURNED, False, INTERPRET)
        y = operand(b, q * members + e, n, start + k * BK, BN, BK, B_TURNED, True, INTERPRET)
        total = step(
            x, y, total, factors, factors2, m, n, start + k * BK, M, N, K, BM, BN, PRECISION, GROUP_A, GROUP_B
        )  # fmt: skip
    slot = part * members + e
    finish(
        total, out, slot, e, m, n, M, N, alpha, alpha2, bias, bias_e, factors, factors2, BM, BN, SCALES, BIAS,
        GROUP_A, GROUP_B, OUT, INTERPRET,
    )  # fmt: skip


@triton.jit(
    do_not_specialize=[
        "bias_e",
        "factors_e",
        "factors2_e",
        "M",
        "N",
        "K",
        "share",
        "tiles_m",
        "tiles_n",
        "members",
        "parts",
    ]
)
def tiles_kernel(
    a, b, out, alpha, alpha2, bias, bias_e, factors, factors_e, factors2, factors2_e, M, N, K, share,
    tiles_m, tiles_n, members, parts,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, A_TURNED: tl.constexpr, B_TURNED: tl.constexpr,
    GROUP: tl.constexpr, A_PARTS: tl.constexpr, B_PARTS: tl.constexpr, PRECISION: tl.constexpr, SCALES: tl.constexpr,
    BIAS: tl.constexpr, GROUP_A: tl.constexpr, GROUP_B: tl.constexpr, OUT: tl.constexpr, INTERPRET: tl.constexpr,
    STEPS: tl.constexpr, JOBS: tl.constexpr,
):  # fmt: skip
    """The same by a fixed number of programs: each takes tile after tile, and reads the next one's operands ahead.

    STEPS, JOBS: in the interpreter, where one program takes all tiles: pairs * share / BK, the number of tiles.
    """
    PAIRS: tl.constexpr = 6 if A_PARTS * B_PARTS == 9 else A_PARTS * B_PARTS
    first, jobs, programs = tl.program_id(0), tiles_m * tiles_n * members * parts, tl.num_programs(0)
    steps = tl.cdiv(share, BK)
    if INTERPRET:  # in the interpreter, loops have constant bounds
        first, jobs, programs = 0, JOBS, 1
    else:
        tl.assume(share > 0)
    for job in tl.range(first, jobs, programs, flatten=True):
        slot = job // (tiles_m * tiles_n)
        part, e = slot // members, slot % members
        row, column = place(job % (tiles_m * tiles_n), tiles_m, tiles_n, GROUP)
        m, n = row * BM, column * BN
        one, two = factors + e.to(tl.int64) * factors_e, factors2 + e.to(tl.int64) * factors2_e
        total = tl.zeros([BM, BN], tl.float32)
        for i in range(STEPS if INTERPRET else PAIRS * steps):
            p, q, k = pair(i, steps, A_PARTS, B_PARTS)
            x = operand(a, p * members + e, m, part * share + k * BK, BM, BK, A_TURNED, False, INTERPRET)
            y = operand(b, q * members + e, n, part * share + k * BK, BN, BK, B_TURNED, True, INTERPRET)
            total = step(
                x, y, total, one, two, m, n, part * share + k * BK, M, N, K, BM, BN, PRECISION, GROUP_A, GROUP_B
            )  # fmt: skip
        finish(
            total, out, slot, e, m, n, M, N, alpha, alpha2, bias, bias_e, one, two, BM, BN, SCALES, BIAS,
            GROUP_A, GROUP_B, OUT, INTERPRET,
        )  # fmt: skip
