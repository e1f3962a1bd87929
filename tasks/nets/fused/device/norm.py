"""Kernels of RMSNorm or LayerNorm (CENTER) and their gradients, over rows of E stacked members with a weight each;
optionally of x + y."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _rms(x, C, eps):
    """1 / sqrt(mean x² + eps) of every row [rows, 1]; masked columns are 0."""
    return tl.rsqrt(tl.sum(x * x, 1) / C + eps)[:, None]


@triton.jit
def _centered(x, col, C):
    """x less the mean of every row [rows, 1]; masked columns stay 0."""
    return tl.where(col < C, x - (tl.sum(x, 1) / C)[:, None], 0.0)


@triton.jit
def norm_kernel(
    x, x_e, x_r, x_c, y, y_e, y_r, y_c, total, w, w_e, w_c, out, R, C, eps, tiles,
    BR: tl.constexpr, BC: tl.constexpr, ADD: tl.constexpr, WEIGHT: tl.constexpr, CENTER: tl.constexpr,
):  # fmt: skip
    """out = w x / rms(x) of BR rows; with ADD, of x + y, which goes to total; with CENTER, of what is less its mean.

    total, out: contiguous [E, R, C].
    """
    pid = tl.program_id(0)
    member = (pid // tiles).to(tl.int64)
    row = (pid % tiles * BR + tl.arange(0, BR)).to(tl.int64)[:, None]
    col = tl.arange(0, BC)[None, :]
    inside = (row < R) & (col < C)
    to = (member * R + row) * C + col
    v = tl.load(x + member * x_e + row * x_r + col * x_c, inside, 0.0).to(tl.float32)
    if ADD:
        v += tl.load(y + member * y_e + row * y_r + col * y_c, inside, 0.0).to(tl.float32)
        v = v.to(total.dtype.element_ty).to(tl.float32)  # what the backward pass will read
        tl.store(total + to, v, inside)
    if CENTER:
        v = _centered(v, col, C)
    v *= _rms(v, C, eps)
    if WEIGHT:
        v *= tl.load(w + member * w_e + col * w_c, col < C, 0.0).to(tl.float32)
    tl.store(out + to, v, inside)


@triton.jit
def norm_backward_kernel(
    g, g1, g2, g_e, g_r, g_c, s, s_e, s_r, s_c, x, x_e, x_r, x_c, w, w_e, w_c, dx, partial, R, C, eps, chunks,
    LOOP: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr, ADD: tl.constexpr, WEIGHT: tl.constexpr,
    CENTER: tl.constexpr, USES: tl.constexpr,
):  # fmt: skip
    """dx [E, R, C] of LOOP tiles of BR rows, and their part of dw, partial [E, chunks, C].

    With n = x / rms(x) and h = w g: dx = (h - n mean(n h)) / rms(x), dw = sum of g n over rows. With CENTER, x is less
    its mean, and so is h - n mean(n h). With ADD, s is the gradient that x gets besides. USES of g, g1 and g2, strided
    alike, are summed.
    """
    pid = tl.program_id(0)
    member = (pid // chunks).to(tl.int64)
    first = pid % chunks * (LOOP * BR)
    col = tl.arange(0, BC)[None, :]
    if WEIGHT:
        weight = tl.load(w + member * w_e + col * w_c, col < C, 0.0).to(tl.float32)
    dw = tl.zeros([BR, BC], tl.float32)
    for i in range(LOOP):
        row = (first + i * BR + tl.arange(0, BR)).to(tl.int64)[:, None]
        inside = (row < R) & (col < C)
        n = tl.load(x + member * x_e + row * x_r + col * x_c, inside, 0.0).to(tl.float32)
        at = member * g_e + row * g_r + col * g_c
        h = tl.load(g + at, inside, 0.0).to(tl.float32)
        if USES > 1:
            h += tl.load(g1 + at, inside, 0.0).to(tl.float32)
        if USES > 2:
            h += tl.load(g2 + at, inside, 0.0).to(tl.float32)
        if CENTER:
            n = _centered(n, col, C)
        r = _rms(n, C, eps)
        n *= r
        dw += h * n
        if WEIGHT:
            h *= weight
        d = r * (h - n * (tl.sum(n * h, 1) / C)[:, None])
        if CENTER:
            d -= r * (tl.sum(h, 1) / C)[:, None]
        if ADD:
            d += tl.load(s + member * s_e + row * s_r + col * s_c, inside, 0.0).to(tl.float32)
        tl.store(dx + (member * R + row) * C + col, d, inside)
    if WEIGHT:
        tl.store(partial + pid.to(tl.int64) * C + tl.arange(0, BC), tl.sum(dw, 0), tl.arange(0, BC) < C)
