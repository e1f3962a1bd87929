"""Weight rules by kernels: the quantizations of W by those of its quantizer, and a launch or two for all the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dse.fused.checked import unchecked
from dse.fused.dispatch import Table, quantize, table
from dse.fused.support import Use, uncovered
from dse.numerics.quantizer import Quantized, Quantizer
from dse.numerics.random import Key
from dse.numerics.techniques.rounding import AwayFromZero, TowardZero
from dse.numerics.techniques.weights import OsciReset, QEma, QRamping, WeightRule

_BLOCK = 1024
"""Elements of a program."""


@dataclass(frozen=True, eq=False)
class RuleStep(ABC):
    """A rule for E members with one quantizer of W, ``plain``; W [E, N, K] float32, a view of wider rows.

    ``active`` bool [E]: members that take the step; what the others have stays as it is.
    """

    plain: Table

    @abstractmethod
    def before_step(self, w: Tensor, grad: Tensor | None, state: Mapping[str, Tensor], active: Tensor) -> None:
        """As ``WeightRule.before_step``."""

    @abstractmethod
    def after_step(self, w: Tensor, state: Mapping[str, Tensor], active: Tensor, key: Key) -> None:
        """As ``WeightRule.after_step``."""

    def quantize(self, w: Tensor, state: Mapping[str, Tensor], key: Key, dtype: torch.dtype) -> Quantized:
        """As ``WeightRule.quantize``."""
        return quantize(w, self.plain, key, dtype)

    def _moved(self, w: Tensor, before: Tensor, key: Key) -> tuple[tuple[Tensor, ...], bool]:
        """Q(W) and Q(before), their factors, and whether these are needed."""
        reading = replace(key, sampling=False)
        now, then = (quantize(one, self.plain, reading, torch.float32) for one in (w, before))
        alphas = [before if a is None else a for a in (now.alpha, then.alpha)]
        return (now.values.contiguous(), then.values.contiguous(), *alphas), now.alpha is not None


@dataclass(frozen=True, eq=False)
class OsciResetStep(RuleStep):
    """``OsciReset``."""

    rule: OsciReset

    def before_step(self, w: Tensor, grad: Tensor | None, state: Mapping[str, Tensor], active: Tensor) -> None:
        from dse.kernels.device.weight_rules import remember_kernel

        remember_kernel[_grid(w)](w, w.stride(0), *_of(state, "before"), *_elements(w, active), BLOCK=_BLOCK)

    def after_step(self, w: Tensor, state: Mapping[str, Tensor], active: Tensor, key: Key) -> None:
        from dse.kernels.device.weight_rules import osci_reset_kernel

        rule, (values, scaled) = self.rule, self._moved(w, state["before"], key)
        sums = _of(state, "before", "latent", "quantized")
        osci_reset_kernel[_grid(w)](
            w, w.stride(0), *sums, *values, *_of(state, "steps"), *_elements(w, active),
            rule.every, rule.track, rule.start, rule.ratio, SCALED=scaled, BLOCK=_BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
        state["steps"].add_(active)


@dataclass(frozen=True, eq=False)
class QRampingStep(RuleStep):
    """``QRamping``."""

    rule: QRamping

    def before_step(self, w: Tensor, grad: Tensor | None, state: Mapping[str, Tensor], active: Tensor) -> None:
        from dse.kernels.device.weight_rules import ramping_before_kernel

        kept = *_of(state, "before", "total", "shown"), *_of(state, "count", "period")
        g = w if grad is None else grad
        ramping_before_kernel[_grid(w)](
            w, w.stride(0), g, g.stride(0), *kept, *_elements(w, active), GRAD=grad is not None, BLOCK=_BLOCK,
            enable_fp_fusion=False,
        )  # fmt: skip

    def after_step(self, w: Tensor, state: Mapping[str, Tensor], active: Tensor, key: Key) -> None:
        from dse.kernels.device.weight_rules import ramping_adapt_kernel, ramping_release_kernel

        rule, elements = self.rule, _elements(w, active)
        kept = *_of(state, "before", "total"), *_of(state, "count", "period")
        ramping_release_kernel[_grid(w)](w, w.stride(0), *kept, *elements, BLOCK=_BLOCK, enable_fp_fusion=False)
        values, scaled = self._moved(w, state["before"], key)
        sums = *_of(state, "before", "latent", "quantized"), *_of(state, "period")
        ramping_adapt_kernel[_grid(w)](
            w, w.stride(0), *sums, *values, *_of(state, "steps"), *elements,
            rule.every, rule.track, rule.k1, rule.k2, SCALED=scaled, BLOCK=_BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
        state["steps"].add_(active)


@dataclass(frozen=True, eq=False)
class QEmaStep(RuleStep):
    """``QEma``; ``low``, ``high``: the quantizer that rounds toward and away from zero."""

    rule: QEma
    low: Table
    high: Table

    def before_step(self, w: Tensor, grad: Tensor | None, state: Mapping[str, Tensor], active: Tensor) -> None:
        """Nothing to do."""

    def after_step(self, w: Tensor, state: Mapping[str, Tensor], active: Tensor, key: Key) -> None:
        ema, decay = state["ema"], self.rule.decay
        moved = (ema * decay).add_(w, alpha=1 - decay)  # torch's own sum, which may round a product and it once
        torch.where(active[:, None, None], moved, ema, out=ema)
        state["steps"].add_(active)

    def quantize(self, w: Tensor, state: Mapping[str, Tensor], key: Key, dtype: torch.dtype) -> Quantized:
        from dse.kernels.device.weight_rules import choose_neighbor_kernel

        found = [quantize(w, one, key, dtype) for one in (self.plain, self.low, self.high)]
        plain, low, high = (q.values.contiguous() for q in found)
        alpha, out = found[0].alpha, torch.empty_like(plain)
        choose_neighbor_kernel[_grid(w)](
            plain, low, high, state["ema"] if alpha is None else alpha, *_of(state, "ema"), *_of(state, "steps"), out,
            w[0].numel(), _programs(w), self.rule.warmup, SCALED=alpha is not None, BLOCK=_BLOCK,
            enable_fp_fusion=False,
        )  # fmt: skip
        return Quantized(out, alpha)


def _osci_reset(rule: Any, quantizer: Quantizer, tables: Callable[[Quantizer], Table]) -> RuleStep:
    return OsciResetStep(tables(quantizer), rule)


def _q_ramping(rule: Any, quantizer: Quantizer, tables: Callable[[Quantizer], Table]) -> RuleStep:
    return QRampingStep(tables(quantizer), rule)


def _q_ema(rule: Any, quantizer: Any, tables: Callable[[Quantizer], Table]) -> RuleStep:
    low, high = (tables(replace(quantizer, rounding=r)) for r in (TowardZero(), AwayFromZero()))
    return QEmaStep(tables(quantizer), rule, low, high)


RULES: dict[type[WeightRule], Callable[[Any, Quantizer, Callable[[Quantizer], Table]], RuleStep]] = {
    OsciReset: _osci_reset,
    QRamping: _q_ramping,
    QEma: _q_ema,
}
"""A rule's kernels."""


def rule_step(rule: WeightRule, quantizer: Quantizer, members: int, device: torch.device | str) -> RuleStep:
    """The kernels of a rule for members that all have it. Raises ValueError where it is not covered."""
    if reason := uncovered_rule(rule, quantizer):
        raise ValueError(f"no kernel for {reason}")
    return RULES[type(rule)](rule, quantizer, lambda q: table([Use(q, None)] * members, device))


def uncovered_rule(rule: WeightRule, quantizer: Quantizer) -> str:
    """'' when kernels compute a rule for W of this quantizer, else the reason in words."""
    name = f"weight rule {type(rule).__name__}"
    if type(rule) not in RULES:
        return name
    why = unchecked("weight rules")
    return uncovered(Use(quantizer, None)) or (f"{name}: {why}" if why else "")


def _of(state: Mapping[str, Tensor], *names: str) -> tuple[Any, ...]:
    """Tensors of one dtype, and the elements from member to member, which are the same for all."""
    found = [state[name] for name in names]
    assert all(t.stride(0) == found[0].stride(0) and t[0].is_contiguous() for t in found)
    return *found, found[0].stride(0)


def _programs(w: Tensor) -> int:
    return -(-w[0].numel() // _BLOCK)


def _grid(w: Tensor) -> tuple[int]:
    return (len(w) * _programs(w),)


def _elements(w: Tensor, active: Tensor) -> tuple[Tensor, int, int]:
    """Which members take part, a member's elements, and its programs."""
    assert w[0].is_contiguous()
    return active.view(torch.uint8), w[0].numel(), _programs(w)
