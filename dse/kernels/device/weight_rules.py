"""Weight rules around the optimizer's step, for the members of a stack: the twins of dse.numerics.techniques.weights.

W [E, N, K], its gradient and the rules' tensors are views of wider rows, contiguous within a member: ``w_e``,
``grad_e``, ``kept_e`` (float32), ``count_e`` (int32) and ``steps_e`` elements from member to member. Quantized values
are contiguous.
``size`` = N K, ``programs`` of BLOCK elements for each member; ``active`` uint8 [E]: a member whose step is skipped
stays as it was. ``steps`` int64 [E] is read and not changed here.
"""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def place(programs, size, active, BLOCK: tl.constexpr):
    """The member, its elements' numbers, which of them exist, and whether it takes the step."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs * BLOCK + tl.arange(0, BLOCK)
    return e, at, at < size, tl.load(active + e) != 0


@triton.jit
def moved(at, inside, own, kept, w, before, now, then, now_alpha, then_alpha, latent, quantized, position,
          SCALED: tl.constexpr):  # fmt: skip
    """Q(W), and Dist_W and Dist_Q with this step; ``own``, ``kept``: the member's first element of values and of
    the rule's tensors; at ``position`` 0 of a period
    they begin anew."""
    value = tl.load(now + own + at, inside, 0.0)
    old = tl.load(then + own + at, inside, 0.0)
    if SCALED:
        value, old = value * now_alpha, old * then_alpha
    distance = tl.abs(w - before)
    jump = tl.abs(value - old)
    if position > 0:
        distance = tl.load(latent + kept + at, inside, 0.0) + distance
        jump = tl.load(quantized + kept + at, inside, 0.0) + jump
    return value, distance, jump


@triton.jit(do_not_specialize=["w_e", "kept_e", "size", "programs"])
def remember_kernel(w, w_e, before, kept_e, active, size, programs, BLOCK: tl.constexpr):
    """before = W."""
    e, at, inside, on = place(programs, size, active, BLOCK)
    if on:
        tl.store(before + e * kept_e + at, tl.load(w + e * w_e + at, inside, 0.0), inside)


@triton.jit(
    do_not_specialize=["w_e", "kept_e", "steps_e", "size", "programs", "every", "track", "start"],
    do_not_specialize_on_alignment=["steps"],
)
def osci_reset_kernel(
    w, w_e, before, latent, quantized, kept_e, now, then, now_alpha, then_alpha, steps, steps_e, active, size, programs,
    every, track, start, ratio, SCALED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """After the optimizer: adds up the distances while tracking, and resets W after the last tracked step."""
    e, at, inside, on = place(programs, size, active, BLOCK)
    step = tl.load(steps + e * steps_e) - start
    position = step % every
    if on & (step >= 0) & (position < track):
        own, kept = e * size, e * kept_e
        x, old = tl.load(w + e * w_e + at, inside, 0.0), tl.load(before + kept + at, inside, 0.0)
        value, distance, jump = moved(
            at, inside, own, kept, x, old, now, then, tl.load(now_alpha + e), tl.load(then_alpha + e),
            latent, quantized, position, SCALED,
        )  # fmt: skip
        tl.store(latent + kept + at, distance, inside)
        tl.store(quantized + kept + at, jump, inside)
        if position == track - 1:
            oscillates = (distance > 0) & (jump >= distance * ratio)
            tl.store(w + e * w_e + at, tl.where(oscillates, value, x), inside)


@triton.jit(do_not_specialize=["w_e", "grad_e", "kept_e", "count_e", "size", "programs"])
def ramping_before_kernel(
    w, w_e, grad, grad_e, before, total, shown, kept_e, count, period, count_e, active, size, programs,
    GRAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Before the optimizer: W is remembered, and its gradient added up and shown as a mean."""
    e, at, inside, on = place(programs, size, active, BLOCK)
    if on:
        own, counted = e * kept_e, e * count_e
        tl.store(before + own + at, tl.load(w + e * w_e + at, inside, 0.0), inside)
        if GRAD:
            summed = tl.load(total + own + at, inside, 0.0) + tl.load(grad + e * grad_e + at, inside, 0.0)
            number = tl.load(count + counted + at, inside, 0) + 1
            due = number >= tl.load(period + counted + at, inside, 1)
            mean = tl.div_rn(summed, number.to(tl.float32))
            mean = tl.where(due, mean, tl.load(shown + own + at, inside, 0.0))
            tl.store(total + own + at, summed, inside)
            tl.store(count + counted + at, number, inside)
            tl.store(shown + own + at, mean, inside)
            tl.store(grad + e * grad_e + at, mean, inside)


@triton.jit(do_not_specialize=["w_e", "kept_e", "count_e", "size", "programs"])
def ramping_release_kernel(
    w, w_e, before, total, kept_e, count, period, count_e, active, size, programs, BLOCK: tl.constexpr
):
    """After the optimizer: held weights go back, released ones move as far as all their steps together."""
    e, at, inside, on = place(programs, size, active, BLOCK)
    if on:
        own, counted = e * kept_e, e * count_e
        x, old = tl.load(w + e * w_e + at, inside, 0.0), tl.load(before + own + at, inside, 0.0)
        number = tl.load(count + counted + at, inside, 0)
        due = number >= tl.load(period + counted + at, inside, 1)
        further = tl.where(number > 1, old + (x - old) * number.to(tl.float32), x)
        tl.store(w + e * w_e + at, tl.where(due, further, old), inside)
        tl.store(total + own + at, 0.0, inside & due)
        tl.store(count + counted + at, 0, inside & due)


@triton.jit(
    do_not_specialize=["w_e", "kept_e", "count_e", "steps_e", "size", "programs", "every", "track", "k2"],
    do_not_specialize_on_alignment=["steps"],
)
def ramping_adapt_kernel(
    w, w_e, before, latent, quantized, kept_e, period, count_e, now, then, now_alpha, then_alpha, steps, steps_e,
    active, size, programs, every, track, k1, k2, SCALED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Then: adds up the distances while tracking, and sets the periods N."""
    e, at, inside, on = place(programs, size, active, BLOCK)
    position = tl.load(steps + e * steps_e) % every
    own, kept, counted = e * size, e * kept_e, e * count_e
    if on & (position == every - 1):
        tl.store(period + counted + at, 1, inside)
    if on & (position < track):
        x, old = tl.load(w + e * w_e + at, inside, 0.0), tl.load(before + kept + at, inside, 0.0)
        _, distance, jump = moved(
            at, inside, own, kept, x, old, now, then, tl.load(now_alpha + e), tl.load(then_alpha + e),
            latent, quantized, position, SCALED,
        )  # fmt: skip
        tl.store(latent + kept + at, distance, inside)
        tl.store(quantized + kept + at, jump, inside)
        if position == track - 1:
            r = tl.where(distance > 0, tl.div_rn(jump, distance), 0.0)
            n = tl.floor(tl.div_rn(r, tl.full(r.shape, 0.0, tl.float32) + k1)) * k2.to(tl.float32) + 1.0
            n = tl.where(n > every.to(tl.float32), every.to(tl.float32), n)
            tl.store(period + counted + at, n.to(tl.int32), inside)


@triton.jit(
    do_not_specialize=["kept_e", "steps_e", "size", "programs", "warmup"], do_not_specialize_on_alignment=["steps"]
)
def choose_neighbor_kernel(
    plain,
    low,
    high,
    alpha,
    ema,
    kept_e,
    steps,
    steps_e,
    target,
    size,
    programs,
    warmup,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of the two neighbors of each element the one that is nearer to its average; before the warmup's end ``plain``."""
    pid = tl.program_id(0)
    e = (pid // programs).to(tl.int64)
    at = pid % programs * BLOCK + tl.arange(0, BLOCK)
    inside, where = at < size, e * size + at
    y = tl.load(plain + where, inside, 0.0).to(tl.float32)
    if tl.load(steps + e * steps_e) >= warmup:
        lo, hi = tl.load(low + where, inside, 0.0).to(tl.float32), tl.load(high + where, inside, 0.0).to(tl.float32)
        middle = (lo + hi) * 0.5
        if SCALED:
            middle = middle * tl.load(alpha + e)
        sign = tl.where(hi > 0, 1.0, tl.where(hi < 0, -1.0, hi))
        y = tl.where(tl.load(ema + e * kept_e + at, inside, 0.0) * sign >= middle * sign, hi, lo)
    tl.store(target + where, y.to(target.dtype.element_ty), inside)
