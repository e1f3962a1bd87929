"""Addition: a small decoder learns sums written out, `DDD+DDD=DDDD`, and is asked for sums that it has never seen.

The carry is learned at one moment or never, so the held-out error falls from 1 to 0 within a few hundred steps: how
many of the seeds learn, and when, tells stabilizers apart that a gradual loss does not. First reported by
github.com/Infatoshi/nvfp4-sm120 (one seed).

A line is language: the training loss is the cross-entropy of every character after the first, the operands' included,
which nothing can predict; the held-out loss is that of the answer alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.tasks import options
from dse.tasks.base import Batch, Model, Task, Training
from dse.tasks.means import cross_entropy
from dse.tasks.nets.llama import Llama
from dse.tasks.streams import integers, permutation

ALPHABET = "0123456789+=\n"
HELD_OUT = 4_096  # sums that are measured, of the tenth that is held out
_PLUS, _EQUALS, _END = 10, 11, 12


@dataclass(frozen=True)
class AdditionSize:
    """Digits of an operand; depth, width, heads and SwiGLU width of the decoder; the default training."""

    digits: int
    depth: int
    width: int
    heads: int
    hidden: int
    training: Training


_BASE = Training(
    1500, 512, 1e-3, weight_decay=0.1, decayed="matrices", warmup=0.05, final_lr=0.0, eval_every=50
)  # as measured: fits one GPU in seconds
SIZES = {
    "tiny": AdditionSize(2, 2, 64, 2, 128, replace(_BASE, steps=1000, lr=8e-3)),
    "small": AdditionSize(2, 3, 128, 4, 256, replace(_BASE, steps=1000, batch=256, lr=3e-3)),
    "base": AdditionSize(3, 6, 256, 4, 512, _BASE),  # 3.9M parameters
}


@dataclass(frozen=True)
class Sums:
    """Pairs of operands as one number a·10^digits + b, int64 [N], for training and held out; digits of an operand."""

    x: Tensor
    test_x: Tensor
    digits: int


@dataclass(frozen=True)
class Addition(Task[Sums]):
    """Option: `size` tiny, small (two digits) | base (three). A tenth of all pairs of operands is held out.

    The held-out metric `error` is the share of sums with a wrong character; `exact` is the share of right ones.
    """

    name: ClassVar[str] = "addition"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "error"
    classifies: ClassVar[bool] = True
    learned: ClassVar[float | None] = 0.1

    size: str = "tiny"

    def __post_init__(self) -> None:
        options.choice(self.name, "size", self.size, SIZES)

    def training(self) -> Training:
        return SIZES[self.size].training

    def check_start(self, earlier: Task[Any]) -> None:
        super().check_start(earlier)
        if isinstance(earlier, Addition) and earlier.size != self.size:
            raise UserError(f"addition: size {self.size!r} cannot start from weights of size {earlier.size!r}")

    def load(self, data_dir: Path | None = None) -> Sums:
        digits = SIZES[self.size].digits
        pairs = permutation(10 ** (2 * digits), "addition", digits)
        held_out = len(pairs) // 10
        return Sums(pairs[held_out:], pairs[:held_out], digits)

    def model(self, data: Sums) -> nn.Module:
        size = SIZES[self.size]
        return Llama(len(ALPHABET), 3 * data.digits + 3, size.width, size.depth, size.heads, size.hidden)

    def exempt(self) -> tuple[str, ...]:
        return ("head", "blocks.0.*")

    def batch(self, data: Sums, seeds: Tensor, step: Tensor, size: int) -> Batch:
        """Lines [E, size, 3 digits + 4] as numbers of characters."""
        return (lines(data.x[integers(seeds, step, size, len(data.x))], data.digits),)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        (line,) = batch
        return cross_entropy(model(line[:, :-1]).flatten(0, 1), line[:, 1:].flatten())

    def held_out(self, data: Sums) -> list[Batch]:
        return [(lines(part, data.digits),) for part in data.test_x[:HELD_OUT].split(1024)]

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        (line,) = batch
        answer = (line.shape[-1] - 4) // 3 + 2  # its characters and the end of the line
        scores, asked = model(line[:, :-1])[:, -answer:], line[:, -answer:]
        loss = cross_entropy(scores.flatten(0, 1), asked.flatten())
        exact = (scores.argmax(-1) == asked).all(-1).float().mean()
        # told the right characters so far, it says the next: all of them are right just where its own sum would be
        return {"error": torch.where(loss.isfinite(), 1 - exact, loss), "exact": exact, "loss": loss}


def lines(pairs: Tensor, digits: int) -> Tensor:
    """The lines of pairs of operands, int64 [...] -> numbers of characters, int64 [..., 3 digits + 4]."""
    a, b = pairs // 10**digits, pairs % 10**digits
    parts = [_written(a, digits), _sign(pairs, _PLUS), _written(b, digits), _sign(pairs, _EQUALS)]
    return torch.cat([*parts, _written(a + b, digits + 1), _sign(pairs, _END)], -1)


def _written(number: Tensor, digits: int) -> Tensor:
    return torch.stack([number // 10**place % 10 for place in reversed(range(digits))], -1)


def _sign(like: Tensor, character: int) -> Tensor:
    return torch.full_like(like, character).unsqueeze(-1)
