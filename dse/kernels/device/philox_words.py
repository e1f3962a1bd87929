"""Words of Philox streams, stored."""
# mypy: ignore-errors

import triton
import triton.language as tl

from dse.kernels.device.philox import draw


@triton.jit(do_not_specialize=["clock_e", "clock_i", "count", "parts", "layer", "purpose"])
def words_kernel(out, clock, clock_e, clock_i, count, parts, layer, purpose, BLOCK: tl.constexpr):
    """out int32 [E, count, 4] contiguous; clock int64 [E, 2]."""
    pid = tl.program_id(0)
    e = (pid // parts).to(tl.int64)
    seed = tl.load(clock + e * clock_e)
    step = tl.load(clock + e * clock_e + clock_i)
    at = (pid % parts) * BLOCK + tl.arange(0, BLOCK)
    w = draw(at, purpose, layer, seed, step)
    pairs = tl.join(tl.join(w[0], w[2]), tl.join(w[1], w[3]))  # [BLOCK, 2, 2]: words 0, 1, 2, 3 in a row
    four = tl.reshape(pairs, (BLOCK, 4)).to(tl.int32, bitcast=True)
    where = out + (e * count + at.to(tl.int64))[:, None] * 4 + tl.arange(0, 4)[None, :]
    tl.store(where, four, (at < count)[:, None])
