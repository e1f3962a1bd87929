"""Counter-based randomness: (seed, step, layer, point) -> Philox4x32-10 -> random bits.

No hidden state: the same trial draws the same bits alone, in any pack, on any worker and after any resume. One Philox
call gives 128 bits, which is 8 bits for each of 16 consecutive elements of a row; wider draws take more calls.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dse.kernels import cpu_loops
from dse.kernels.availability import takes

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
GROUP = 16
"""Consecutive elements of a row that share the counters of one group of Philox calls."""


def philox(c02: Tensor, c13: Tensor, k0: Tensor, k1: Tensor) -> tuple[Tensor, Tensor]:
    """Philox4x32-10 on int64 tensors that hold uint32 words.

    ``c02`` [2, ...]: counter words 0 and 2; ``c13``: words 1 and 3; ``k0``, ``k1``: key words, broadcastable to
    ``c02[0]``. Returns the output words in the same two pairs. The pairs halve the number of operations; on the CPU the
    rounds run in numpy, which starts an operation several times faster than torch (most draws are small).
    """
    shape = [2] + [1] * (c02.dim() - 1)
    constants = _constants(c02.device)
    multiplier, weyl = constants[:2].view(shape), constants[2:].view(shape)
    k = torch.stack([k0, k1])
    if c02.device.type != "cpu":
        return _rounds(c02, c13, k, multiplier, weyl, lambda x: x.flip(0))
    even, odd = _rounds(c02.numpy(), c13.numpy(), k.numpy(), multiplier.numpy(), weyl.numpy(), lambda x: x[::-1])
    return torch.from_numpy(even), torch.from_numpy(odd)


@lru_cache
def _constants(device: torch.device) -> Tensor:
    """Multipliers and Weyl increments, kept on the device: a CUDA graph refuses the copy."""
    return torch.tensor([_M0, _M1, _W0, _W1], device=device)


def _rounds(c02: Any, c13: Any, k: Any, multiplier: Any, weyl: Any, swap: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The ten rounds, on torch tensors or numpy arrays; ``swap`` exchanges the two rows of a pair."""
    for i in range(10):
        product = c02 * multiplier
        c02 = swap(product >> 32) ^ c13
        c02 ^= k + i * weyl
        c02 &= _MASK
        c13 = swap(product)  # its high half is dropped by the mask one round later
    return c02, c13 & _MASK


@dataclass(frozen=True)
class Key:
    """What addresses a stream of random bits.

    - ``clock``: int64 ``[..., 2]``, the trial's seed and the training step (leading axes: members of a pack);
    - ``layer``: index of the layer in the model; ``point``: quantization point (0-5) or another fixed purpose;
    - ``draw``: separates several draws at one point (elements, scales, rotation signs).

    And what a point keeps between steps:

    - ``memory``: float32 ``[..., 6]``, one value per quantization point, 0 when empty, changed in place; or None;
    - ``sampling``: False in evaluation, which reads the memory and leaves it alone.

    ``matrices``: where a trial has several operands at one point (samples and heads of attention), how many; operands
    are then [members * matrices, rows, columns], and draw as one operand of all their rows would. 0: one, with the
    clock's leading axes.
    """

    clock: Tensor
    layer: int = 0
    point: int = 0
    draw: int = 0
    memory: Tensor | None = None
    sampling: bool = True
    matrices: int = 0

    def at(self, point: int) -> Key:
        """The same layer and step at another quantization point."""
        return Key(self.clock, self.layer, point, self.draw, self.memory, self.sampling, self.matrices)

    def fork(self, draw: int) -> Key:
        """An independent stream at the same point."""
        return Key(self.clock, self.layer, self.point, draw, self.memory, self.sampling, self.matrices)

    def frozen(self) -> Key:
        """The same key, unaffected by later changes of the clock."""
        return replace(self, clock=self.clock.clone())

    def purpose(self, n: int) -> int:
        """The counters' second word where ``n`` bits are drawn: of the point, the draw and the width of a lane."""
        return self.point | self.draw << 8 | _lane(n) << 16

    def bits(self, rows: int, columns: int, n: int) -> Tensor:
        """Uniform integers in ``[0, 2^n)``, 1 <= n <= 32: int64 (uint8 for n = 8) of shape ``[..., rows, columns]``.

        Element (m, k) depends on (key, m, k) and the number of columns only.
        """
        if self.matrices:
            drawn = replace(self, matrices=0).bits(self.matrices * rows, columns, n)
            stacked: Tensor = drawn.unflatten(-2, (self.matrices, rows)).flatten(0, -3)
            return stacked
        lane = _lane(n)
        calls = GROUP * lane // 128
        groups = -(-columns // GROUP)
        clock = self.clock
        if (words := _words(self, rows * groups * calls, n)) is not None:
            return self._unpacked(words, rows, columns, n, lane)
        index = torch.arange(rows * groups * calls, device=clock.device).expand(*clock.shape[:-1], -1)
        seed, step = clock[..., 0, None], clock[..., 1, None]
        c02 = torch.stack([index, torch.full_like(index, self.layer)])
        c13 = torch.stack([torch.full_like(index, self.purpose(n)), (step & _MASK).expand_as(index)])
        even, odd = philox(c02, c13, seed & _MASK, seed >> 32 & _MASK)
        words = torch.stack([even[0], odd[0], even[1], odd[1]], -1).to(torch.int32)
        return self._unpacked(words, rows, columns, n, lane)

    def _unpacked(self, words: Tensor, rows: int, columns: int, n: int, lane: int) -> Tensor:
        """The lanes of int32 ``words`` [..., calls, 4], the first n bits of each."""
        groups = -(-columns // GROUP)
        kind = {8: torch.uint8, 16: torch.int16, 32: torch.int32}[lane]
        lanes = words.view(kind).reshape(*self.clock.shape[:-1], rows, groups * GROUP)[..., :columns]
        if n == 8:
            return lanes
        return (lanes.to(torch.int64) & (1 << lane) - 1) >> (lane - n)


def _lane(n: int) -> int:
    """Bits of a word that n random bits are taken from the top of."""
    return 8 if n <= 8 else 16 if n <= 16 else 32


def _words(key: Key, count: int, n: int) -> Tensor | None:
    """Philox words int32 [..., count, 4] by one kernel or compiled loop, or None where there is none."""
    if takes(key.clock):
        from dse.kernels.philox import words

        return words(key.clock, count, key.layer, key.purpose(n))
    if key.clock.device.type != "cpu" or not cpu_loops.ready(4 * count) or not cpu_loops.readable(key.clock):
        return None
    out = torch.empty(*key.clock.shape[:-1], count, 4, dtype=torch.int32)
    flat = out.view(-1, 4 * count).numpy().view(np.uint32)
    cpu_loops.loops("philox_loops").draw(flat, key.purpose(n), key.layer, key.clock.reshape(-1, 2).contiguous().numpy())
    return out


def key(seed: int = 0, step: int = 0, layer: int = 0, point: int = 0) -> Key:
    """A solo key from plain integers, for tests and notebooks."""
    return Key(torch.tensor([seed, step]), layer, point)
