"""The (randomized) Hadamard rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dse.errors import OptionError, nearest
from dse.kernels import cpu_loops
from dse.kernels.alignment import contiguous
from dse.numerics.ops import Ops
from dse.numerics.random import Key
from dse.numerics.techniques.rotations.base import Rotation

_TE_SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)
"""The fixed sign vector of TransformerEngine's NVFP4 recipe, repeated along larger sizes."""
TE_MINUS = sum(1 << i for i, sign in enumerate(_TE_SIGNS) if sign < 0)
"""The same as bits: 1 where the sign is negative."""
_SIGNS = ("none", "fixed", "random")


_CHUNK = 1 << 16
"""Elements that a CPU transforms at once: they stay in its cache."""


def transform(x: Tensor, size: int, signs: Tensor | None = None) -> Tensor:
    """X diag(signs) H / sqrt(size) on every ``size`` elements of the last axis, H Sylvester's matrix of ones.

    The fast Walsh-Hadamard transform: butterflies (a, b) -> (a + b, a - b) of elements 1, 2, 4 ... apart, in this
    order, so that every device and kernel adds in the same order; last one multiplication by fp32(1 / sqrt(size)).
    """
    if x.requires_grad and torch.is_grad_enabled():
        x = x if signs is None else _signed(x, signs)
        y = x.unflatten(-1, (-1, size))
        for h in _steps(size):
            a, b = y.unflatten(-1, (-1, 2, h)).unbind(-2)
            y = torch.stack((a + b, a - b), -2).flatten(-3)
        turned: Tensor = (y * (1 / math.sqrt(size))).flatten(-2)
        return turned
    if x.numel() == 0:
        return x.clone()
    if cpu_loops.takes(x) and (signs is None or signs.dim() == 1 or signs.shape[:-1] == x.shape[:-2]):
        return _compiled(x, size, signs)
    if signs is not None and signs.dim() > 1:
        x, signs = _signed(x, signs), None
    rows = x.reshape(-1, size)
    out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
    chunk = max(1, min(len(rows), _CHUNK // size if x.device.type == "cpu" else len(rows)))
    buffers = torch.empty(2, size * chunk, dtype=x.dtype, device=x.device)
    for part, target in zip(rows.split(chunk), out.split(chunk), strict=True):
        _transform(part, signs, target, *(buffer[: part.numel()].view(size, len(part)) for buffer in buffers))
    return out.view(x.shape)


def _compiled(x: Tensor, size: int, signs: Tensor | None) -> Tensor:
    """The same by a compiled loop; ``signs`` [size], or [..., size] with the leading axes of x [..., R, K]."""
    out = torch.empty(x.shape, dtype=x.dtype)
    each = torch.ones(1, size) if signs is None else signs.detach().reshape(-1, size).contiguous()
    rows, turned = (contiguous(t.detach()).view(len(each), -1, size).numpy() for t in (x, out))
    cpu_loops.loops("hadamard_loops").transform(rows, each.numpy(), turned, 1 / math.sqrt(size))
    return out


def _transform(x: Tensor, signs: Tensor | None, out: Tensor, y: Tensor, other: Tensor) -> None:
    """Rows x [M, size] to ``out``. In the buffers [size, M] their axis goes first, for long runs of memory."""
    size, count = y.shape
    y.copy_(x.t())
    if signs is not None:
        y.mul_(signs.unsqueeze(-1))
    for h in _steps(size):
        a, b = y.view(-1, 2, h * count).unbind(1)
        total, difference = other.view(-1, 2, h * count).unbind(1)
        torch.add(a, b, out=total)
        torch.sub(a, b, out=difference)
        y, other = other, y
    torch.mul(y.t(), 1 / math.sqrt(size), out=out)


def _signed(x: Tensor, signs: Tensor) -> Tensor:
    """x [..., R, K] times ``signs`` [size] or [..., size]."""
    whole = signs.unsqueeze(-2).expand(*signs.shape[:-1], x.shape[-1] // signs.shape[-1], -1).flatten(-2)
    return x * whole.unsqueeze(-2)  # one long row: a broadcast in the middle would be slow


def _steps(size: int) -> list[int]:
    return [1 << i for i in range(size.bit_length() - 1)]


@lru_cache
def _kept_signs(size: int, signs: str, dtype: torch.dtype) -> Tensor:
    """Signs that are not drawn, on the CPU."""
    with torch.inference_mode(False):
        minus = TE_MINUS >> (torch.arange(size) % len(_TE_SIGNS)) & 1 if signs == "fixed" else torch.zeros(size)
        return 1 - 2 * minus.to(dtype)


@dataclass(frozen=True)
class Hadamard(Rotation):
    """R = diag(S) H / sqrt(size) on every ``size`` consecutive elements of the contraction axis.

    ``signs``: 'none' (S = 1), 'fixed' (TransformerEngine's vector), 'random' (drawn per layer, GEMM and step).
    The order of FP32 operations: signs, the butterflies of ``transform``, one multiplication by fp32(1 / sqrt(size)).

    Cost: 1 + log2(size) per element and operand as a fast Walsh-Hadamard transform, or 2 * size matrix-unit operations.
    Sources: arXiv 2509.17791, Sec. 6; arXiv 2502.20586 (random signs); arXiv 2509.25149 (fixed, weight gradient only).
    Raises OptionError unless size is a power of two between 2 and 1024 and signs is one of the three words.
    """

    size: int = 16
    signs: str = "random"

    def __post_init__(self) -> None:
        if not 2 <= self.size <= 1024 or self.size & self.size - 1:
            raise OptionError(f"hadamard.size must be a power of two between 2 and 1024, not {self.size}")
        if self.signs not in _SIGNS:
            raise OptionError(f"hadamard.signs cannot be {self.signs!r}{nearest(self.signs, _SIGNS)}")

    def basis(self, like: Tensor, key: Key | None) -> Tensor:
        """S: [size], or [..., size] where each member of a pack draws its own."""
        if self.signs != "random" and like.device.type == "cpu" and cpu_loops.readable(like):
            return _kept_signs(self.size, self.signs, like.dtype)
        if self.signs == "none":
            return torch.ones(self.size, dtype=like.dtype, device=like.device)
        if self.signs == "fixed":  # computed on the device: an upload could not be part of a CUDA graph
            minus = TE_MINUS >> (torch.arange(self.size, device=like.device) % len(_TE_SIGNS)) & 1
        elif key is None:
            raise ValueError("random signs need a Key")
        else:
            minus = key.bits(1, self.size, 1).squeeze(-2)
        return 1 - 2 * minus.to(like.dtype)

    def turn(self, x: Tensor, basis: Tensor) -> Tensor:
        return transform(x, self.size, basis)

    def back(self, x: Tensor, basis: Tensor) -> Tensor:
        return _signed(transform(x, self.size), basis)

    def ops(self) -> Ops:
        steps = int(math.log2(self.size))
        return Ops(element=1 + steps, matrix=2 * self.size, why=f"(1 + log2 {self.size})/element as a fast transform")
