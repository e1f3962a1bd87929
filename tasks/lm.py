"""Language modeling: a small Llama-style decoder predicts the next character.

Held-out loss by learning rate (mean of 2 seeds, float32). A default is half the best: paired gaps are steadier there.

    stdlib, tiny            .001 2.561 | .002 2.455 | .004 2.382 | .008 2.328 | .016 2.361
    stdlib, small           .001 1.541 | .002 1.434 | .004 1.396 | .008 1.448
    tinyshakespeare, tiny   .002 2.462 | .004 2.376 | .008 2.345 (1 seed)
    tinyshakespeare, small  .001 1.779 | .002 1.687 | .004 1.653 | .008 1.692 (1 seed)
    base                    not scanned: the rate of tiny times 64 / 512
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.errors import UserError
from tasks import options
from tasks.base import Batch, Model, Task, Training
from tasks.data.text import Text, load_text
from tasks.nets.llama import Llama
from tasks.streams import integers


@dataclass(frozen=True)
class Size:
    """Depth, width, heads, SwiGLU width, characters of context, default training."""

    depth: int
    width: int
    heads: int
    hidden: int
    context: int
    training: Training


TINY = Training(steps=120, batch=8, lr=4e-3)
SIZES = {
    "tiny": Size(2, 64, 2, 160, 64, TINY),
    "small": Size(4, 128, 4, 352, 128, TINY.grown(width=2, steps=5, batch=2)),  # the paper's llama_9M
    "base": Size(8, 512, 8, 1376, 256, TINY.grown(width=8, steps=20, batch=4)),  # its llama_60M at half the context
}
HELD_OUT = 8_192  # characters


@dataclass(frozen=True)
class LanguageModel(Task[Text]):
    """Options: `text` stdlib | tinyshakespeare | a text file, or its name in data_dir/text; `size` tiny | small | base.

    The loss is the cross-entropy in nats per character, on fixed windows spread evenly over the held-out text.
    """

    name: ClassVar[str] = "lm"
    version: ClassVar[int] = 2
    metric: ClassVar[str] = "loss"

    text: str = "stdlib"
    size: str = "tiny"

    def __post_init__(self) -> None:
        options.text(self.name, "text", self.text)
        options.choice(self.name, "size", self.size, SIZES)

    def training(self) -> Training:
        return SIZES[self.size].training

    def load(self, data_dir: Path | None = None) -> Text:
        text, needed = load_text(self.text, data_dir), SIZES[self.size].context + 2
        if min(len(text.x), len(text.test_x)) < needed:
            raise UserError(f"lm: text {self.text!r} is too short: its tenth must have {needed} characters")
        return text

    def model(self, data: Text) -> nn.Module:
        size = SIZES[self.size]
        return Llama(len(data.alphabet), size.context, size.width, size.depth, size.heads, size.hidden)

    def exempt(self) -> tuple[str, ...]:
        return ("head",)

    def batch(self, data: Text, seeds: Tensor, step: Tensor, size: int) -> Batch:
        """Windows [E, size, context] and the character after each of theirs [E, size, context]."""
        context = SIZES[self.size].context
        return _windows(data.x, integers(seeds, step, size, len(data.x) - context), context)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    def held_out(self, data: Text) -> list[Batch]:
        context = SIZES[self.size].context
        count = max(1, min(HELD_OUT, len(data.test_x)) // context)
        start = torch.linspace(0, len(data.test_x) - context - 1, count, dtype=torch.float64).long()
        return [_windows(data.test_x, part, context) for part in start.to(data.test_x.device).split(64)]

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        scores = model(x)
        loss = F.cross_entropy(scores.flatten(0, 1), y.flatten())
        accuracy = (scores.argmax(-1) == y).float().mean()
        return {"loss": loss, "bits_per_char": loss / math.log(2), "accuracy": accuracy}


def _windows(text: Tensor, start: Tensor, context: int) -> Batch:
    window = text[start.unsqueeze(-1) + torch.arange(context + 1, device=text.device)].long()
    return window[..., :-1], window[..., 1:]
