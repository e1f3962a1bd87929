"""The clock of a layer's random bits, and the numbering of its forward calls within one step.

In training each forward call of a layer draws bits of its own: micro-batches of one optimizer step, and uses of a
shared layer, are calls 0, 1, 2 ... since ``set_clock``. Call 0 draws what (seed, step) alone address. A call that is
made again in a backward pass (activation checkpointing) is recognized by its operands and draws the bits of the
original. Evaluation draws those of call 0 and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MASK = 0xFFFFFFFF
_MIX = 0x85EBCA6B
"""Odd, so that calls (mod 2^32) and what is added to the seed are one to one."""
_RANK = 20
"""A rank's calls begin at rank * 2^20."""
_REMEMBERED = 256
"""Calls that a recomputation may go back."""


def numbered(clock: Tensor, call: int | Tensor) -> Tensor:
    """The clock int64 [..., 2] that the keys of a step's call use: its number is folded into the seed's upper half."""
    seed = clock[..., 0] ^ ((torch.zeros_like(clock[..., 0]) + call) * _MIX & _MASK) << 32
    return torch.stack([seed, clock[..., 1]], -1)


class Calls:
    """``clock`` int64 [2], seed and step, with the number of the next call.

    A layer that was never told the time (``set_clock``) counts each call in training as a step of its own.
    """

    def __init__(self, device: torch.device | None) -> None:
        self.clock = torch.zeros(2, dtype=torch.int64, device=device)
        self._next = torch.zeros((), dtype=torch.int64, device=device)
        self._last = self.clock.clone()
        self._seen: Tensor | None = None
        self._told = False

    def set(self, seed: int, step: int, rank: int = 0) -> None:
        """Begins a step: the next call is its first."""
        self.clock[0], self.clock[1] = seed, step
        self._next.fill_(rank << _RANK)
        self._told = True

    def address(self, operands: Sequence[Tensor]) -> Tensor:
        """The clock int64 [2] that this call's keys use, its number folded into the seed's upper half.

        A call in training is counted, unless a backward pass is under way, which only repeats calls.
        """
        self.to(operands[0].device)
        repeatable = _may_be_repeated()
        with torch.inference_mode(False), torch.no_grad():
            if torch._C._current_graph_task_id() != -1:
                return self._repeated(operands)
            now = self._advance()
            if repeatable:
                self._remember(operands, now)
        return now

    def _advance(self) -> Tensor:
        """The address of the next call."""
        now = numbered(self.clock, self._next)
        if self._told:
            self._next += 1
        else:
            self.clock[1] += 1
        self._last = now
        return now

    def to(self, device: torch.device) -> None:
        """Moves all tensors; those without memory begin at zero."""
        if device != self.clock.device:
            empty = self.clock.is_meta
            for name in ("clock", "_next", "_last"):
                old = getattr(self, name)
                setattr(self, name, torch.zeros_like(old, device=device) if empty else old.to(device))
            self._seen = None if self._seen is None else self._seen.to(device)

    def _remember(self, operands: Sequence[Tensor], now: Tensor) -> None:
        """Writes (operands, address) to the place of the oldest that is remembered."""
        if self._seen is None:
            self._seen = torch.zeros(4, _REMEMBERED, dtype=torch.int64, device=now.device)
        order = self._seen[3].max() + 1
        row = torch.cat([_fingerprint(operands).view(1), now, order.view(1)])
        self._seen.index_copy_(1, (order % _REMEMBERED).view(1), row.view(4, 1))

    def _repeated(self, operands: Sequence[Tensor]) -> Tensor:
        """The address of the latest call with these operands; of the last call, where none had them."""
        if self._seen is None:
            return self._last.clone()
        order = torch.where(self._seen[0] == _fingerprint(operands), self._seen[3], 0)
        found = self._seen.index_select(1, order.argmax().view(1))[1:3, 0]
        return torch.where(order.max() > 0, found, self._last)


class Clocked(nn.Module):
    """A module with a clock, which is no buffer: ``DistributedDataParallel`` leaves each rank its own."""

    calls: Calls

    @property
    def clock(self) -> Tensor:
        """int64 [2]: seed and step."""
        return self.calls.clock

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.calls.to(fn(torch.empty(0, device=self.clock.device)).device)
        return self


def _may_be_repeated() -> bool:
    """Whether the call may be under activation checkpointing, which runs without grad mode or with hooks on saving."""
    return not torch.is_grad_enabled() or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def _fingerprint(operands: Sequence[Tensor]) -> Tensor:
    """int64 [] of the bits of all operands and their places: sums over rows and over columns, weighted by place."""
    total = torch.zeros((), dtype=torch.int64, device=operands[0].device)
    for x in operands:
        words = x.detach().reshape(-1, x.shape[-1])
        words = words.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])
        for axis in (0, 1):
            part = words.sum(axis, dtype=torch.int64)
            total = total * _MIX + (part * (torch.arange(len(part), device=x.device) * 2 + 1)).sum()
    return total


__all__ = ["Calls", "Clocked", "numbered"]
