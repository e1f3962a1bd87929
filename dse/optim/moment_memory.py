"""Memory of an optimizer's moments in their storage formats, as hardware would keep them: here buffers stay FP32."""

from __future__ import annotations

import torch

from dse.optim import FIRST_MOMENTS, SECOND_MOMENTS, make_optimizer
from dse.optim.layout import Layout
from dse.optim.moments import MomentFormat

FP32_BITS = 32
_HIDDEN, _OTHER = "hidden", "other"
_LAYOUT = Layout.of([(name, torch.empty(16, 16, device="meta")) for name in (_HIDDEN, _OTHER)], [_HIDDEN])


def format_bits(form: MomentFormat | None) -> float:
    """Bits of a moment per parameter, scales of blocks included; None is FP32."""
    return FP32_BITS if form is None else form.bits


def moment_bytes(optimizer: str, first: str = "fp32", second: str = "fp32") -> tuple[float, float]:
    """Bytes per parameter that the moments take, of hidden matrices and of other parameters (Muon keeps one of the
    former, two of the latter). Raises UserError for names that ``make_optimizer`` does not know."""
    bits = {"first": format_bits(FIRST_MOMENTS.get(first)), "second": format_bits(SECOND_MOMENTS.get(second))}
    moments = make_optimizer(optimizer, first, second).moments(_LAYOUT).values()
    hidden, other = (sum(bits[kind] for kind, own in moments if name in own.names) for name in (_HIDDEN, _OTHER))
    return hidden / 8, other / 8


def moment_memory(optimizer: str, first: str, second: str) -> str:
    """One line about it.

    >>> moment_memory("adamw", "fp8", "fp16")
    'adamw, first fp8, second fp16: 3 bytes per parameter, 8 in FP32'
    """
    own, full = moment_bytes(optimizer, first, second), moment_bytes(optimizer)
    if own[0] == own[1] and full[0] == full[1]:
        return f"{optimizer}, first {first}, second {second}: {own[0]:.3g} bytes per parameter, {full[0]:.3g} in FP32"
    return (
        f"{optimizer}, first {first}, second {second}: {own[0]:.3g} bytes per parameter of hidden matrices and "
        f"{own[1]:.3g} of others, {full[0]:.3g} and {full[1]:.3g} in FP32"
    )


def formats_memory() -> str:
    """One line: every format of a moment, and its bytes per parameter."""
    return ", ".join(f"{name} {format_bits(form) / 8:.3g}" for name, form in SECOND_MOMENTS.items())


__all__ = ["format_bits", "formats_memory", "moment_bytes", "moment_memory"]
