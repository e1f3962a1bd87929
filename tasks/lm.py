"""Language modeling: a small Llama-style decoder, or nanoGPT's, predicts the next character, byte or token.

A default is half the best learning rate: paired gaps between recipes are steadier there. Held-out loss by rate, mean of
2 seeds, at the default steps; sweeps/learning-rates.yaml in BF16 on an H100, 2026-11-27:

    tinyshakespeare, tiny           .002 2.494 | .004 2.385 | .008 2.337 | .016 2.362 | .032 2.419
    tinyshakespeare, small          .001 1.783 | .002 1.701 | .004 1.662 | .008 1.709 | .016 1.857
    tinyshakespeare, small, qk_norm .001 1.802 | .002 1.693 | .004 1.650 | .008 1.664 | .016 1.675
    tinyshakespeare, 0.5M           .00133 1.674 | .00267 1.632 | .00533 1.605 | .0107 1.634 | .0213 1.761
    tinyshakespeare, 1M             .001 1.588 | .002 1.545 | .004 1.541 | .008 1.569 | .016 1.708

and before that on a CPU, in float32:

    stdlib, tiny                    .001 2.561 | .002 2.455 | .004 2.382 | .008 2.328 | .016 2.361
    stdlib, small                   .001 1.541 | .002 1.434 | .004 1.396 | .008 1.448

Not scanned: 3M, 9M, base, 30M and 60M (the rate of tiny times 64 / width), and tokens other than characters.

`nanogpt-cpu` and `nanogpt-gpu` are nanoGPT's two published settings for tinyshakespeare, as anchors: it reports a
held-out loss of 1.88 and (the best on the way) 1.4697. Known differences: its batches come from another generator; it
estimates the loss on random windows, ours are the whole held-out text in windows side by side. Dropout is as published
(embeddings, attention weights, both residual branches), with masks from Philox: each member of a pack has its own, the
same alone. What they reach: docs/tasks.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.tasks import options
from dse.tasks.base import Batch, Model, Scale, Task, Training
from dse.tasks.data.text import Text, Tokens, load_text
from dse.tasks.data.tokens import KINDS
from dse.tasks.means import cross_entropy
from dse.tasks.nets.gpt import Gpt
from dse.tasks.nets.llama import Llama
from dse.tasks.streams import clock, integers

HELD_OUT = 8_192  # tokens


@dataclass(frozen=True)
class LanguageModelSize:
    """Depth, width, heads, SwiGLU width (0: nanoGPT's net), tokens of context, default training.

    `dropout`: its probability; `held_out`: tokens of held-out text that are measured.
    """

    depth: int
    width: int
    heads: int
    hidden: int
    context: int
    training: Training
    dropout: float = 0.0
    held_out: int = HELD_OUT

    @property
    def parameters(self) -> int:
        """Of the blocks' matrices, without embedding and head."""
        return self.depth * (4 * self.width**2 + (3 * self.width * self.hidden or 8 * self.width**2))

    def steps_for(self, tokens_per_parameter: int) -> int:
        """Steps, at least 1, that see so many tokens for each of the blocks' parameters."""
        return max(1, round(tokens_per_parameter * self.parameters / (self.training.batch * self.context)))


TINY = Training(steps=120, batch=8, lr=4e-3)
_ANCHOR = Training(2000, 12, 1e-3, weight_decay=0.1, decayed="matrices", betas=(0.9, 0.99), warmup=0.05, eval_every=250)
_LONG = replace(_ANCHOR, steps=5000, batch=64, warmup=0.02)
SIZES = {
    "tiny": LanguageModelSize(2, 64, 2, 160, 64, TINY),
    "small": LanguageModelSize(4, 128, 4, 352, 128, TINY.grown(width=2, steps=5, batch=2)),  # the paper's llama_9M
    "base": LanguageModelSize(
        8, 512, 8, 1376, 256, TINY.grown(width=8, steps=20, batch=4)
    ),  # its llama_60M at half the context
    # by the parameters of their blocks, all but embedding and head
    "0.5M": LanguageModelSize(4, 96, 3, 320, 128, TINY.grown(width=1.5, steps=8, batch=2)),
    "1M": LanguageModelSize(5, 128, 4, 352, 128, TINY.grown(width=2, steps=12, batch=2)),
    "3M": LanguageModelSize(7, 192, 6, 512, 256, TINY.grown(width=3, steps=16, batch=4)),
    "9M": LanguageModelSize(5, 384, 6, 1024, 256, TINY.grown(width=6, steps=25, batch=4)),
    "30M": LanguageModelSize(10, 512, 8, 1280, 512, TINY.grown(width=8, steps=32, batch=8)),
    "60M": LanguageModelSize(12, 640, 10, 1728, 512, TINY.grown(width=10, steps=48, batch=8)),
    "nanogpt-cpu": LanguageModelSize(4, 128, 4, 0, 64, _ANCHOR, held_out=1 << 20),
    "nanogpt-gpu": LanguageModelSize(6, 384, 6, 0, 256, _LONG, dropout=0.2, held_out=1 << 20),
}


@dataclass(frozen=True)
class LanguageModel(Task[Text]):
    """Options: `text` stdlib | tinyshakespeare | a text file or a folder of them, or its name in data_dir/text; `size`
    tiny | small | base | 0.5M | 1M | 3M | 9M | 30M | 60M | nanogpt-cpu | nanogpt-gpu; `qk_norm` true | false;
    `tokens` characters | bytes | bpe, and the size of bpe's `vocabulary`; `tokens_per_parameter`: how long it trains by
    default, in tokens for each parameter of the blocks (0: as the size says); `swiglu_limit`: bound of a SwiGLU's two
    factors (`SwiGLU`; 0: none).

    The loss is the cross-entropy in nats per token, on fixed windows spread evenly over the held-out text.
    """

    name: ClassVar[str] = "lm"
    version: ClassVar[int] = 2
    metric: ClassVar[str] = "loss"
    classifies: ClassVar[bool] = True

    text: str = "stdlib"
    size: str = "tiny"
    qk_norm: bool = False
    tokens: str = "characters"
    vocabulary: int = 1024
    tokens_per_parameter: int = 0
    swiglu_limit: float = 0.0

    def __post_init__(self) -> None:
        options.text(self.name, "text", self.text)
        options.choice(self.name, "size", self.size, SIZES)
        options.flag(self.name, "qk_norm", self.qk_norm)
        options.choice(self.name, "tokens", self.tokens, KINDS)
        options.integer(self.name, "vocabulary", self.vocabulary, 257, 1 << 20)
        options.integer(self.name, "tokens_per_parameter", self.tokens_per_parameter, 0, 10_000)
        options.number(self.name, "swiglu_limit", self.swiglu_limit)
        for name in ("qk_norm", "swiglu_limit"):
            if getattr(self, name) and not SIZES[self.size].hidden:
                options.meaningless(self.name, name, getattr(self, name), f"size {self.size!r} is another net")

    def training(self) -> Training:
        size = SIZES[self.size]
        if not self.tokens_per_parameter:
            return size.training
        return replace(size.training, steps=size.steps_for(self.tokens_per_parameter))

    def scale(self, training: Training) -> Scale | None:
        """Of Llama's sizes; nanoGPT's two are another net, trained otherwise."""
        size = SIZES[self.size]
        if not size.hidden:
            return None
        tokens = training.steps * training.batch * size.context
        return Scale(replace(self, size="tiny", tokens_per_parameter=0), size.parameters, tokens)

    def check_start(self, earlier: Task[Any]) -> None:
        super().check_start(earlier)
        for name in ("size", "qk_norm", "tokens", "vocabulary"):
            if getattr(earlier, name) != getattr(self, name):
                own = f"{name} {getattr(self, name)!r}"
                raise UserError(f"lm: {own} cannot start from weights with {name} {getattr(earlier, name)!r}")
        if isinstance(earlier, LanguageModel) and earlier.text != self.text and self.tokens != "bytes":
            raise UserError(f"lm: {self.tokens} of another text are other tokens; to start from it take tokens: bytes")

    def load(self, data_dir: Path | None = None) -> Text:
        text = load_text(self.text, data_dir, self.tokens, self.vocabulary)
        unit = "characters" if self.tokens == "characters" else "tokens"
        needed = SIZES[self.size].context + 2
        if min(len(text.x), len(text.test_x)) < needed:
            raise UserError(f"lm: text {self.text!r} is too short: its tenth must have {needed} {unit}")
        return text

    def model(self, data: Text) -> nn.Module:
        size = SIZES[self.size]
        if not size.hidden:
            return Gpt(data.size, size.context, size.width, size.depth, size.heads, size.dropout)
        shape = (data.size, size.context, size.width, size.depth, size.heads, size.hidden)
        return Llama(*shape, self.qk_norm, self.swiglu_limit)

    def exempt(self) -> tuple[str, ...]:
        return ("head",)

    def batch(self, data: Text, seeds: Tensor, step: Tensor, size: int) -> Batch:
        """Windows [E, size, context], the token after each of theirs [E, size, context]; with dropout, clocks too."""
        context = SIZES[self.size].context
        windows = _windows(data.x, integers(seeds, step, size, len(data.x) - context), context)
        if not SIZES[self.size].dropout:
            return windows
        return *windows, clock(seeds, step).unsqueeze(1).expand(-1, size, -1)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        x, y, *clocks = batch
        return cross_entropy(model(x, *(one[0] for one in clocks)).flatten(0, 1), y.flatten())

    def held_out(self, data: Text) -> list[Batch]:
        context = SIZES[self.size].context
        count = max(1, min(SIZES[self.size].held_out, len(data.test_x)) // context)
        start = torch.linspace(0, len(data.test_x) - context - 1, count, dtype=torch.float64).long()
        batches = [_windows(data.test_x, part, context) for part in start.to(data.test_x.device).split(64)]
        if not isinstance(data, Tokens):
            return batches
        return [(x, y, torch.full((len(x),), data.per_character, device=x.device)) for x, y in batches]

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        x, y, *per_character = batch
        scores = model(x)
        loss = cross_entropy(scores.flatten(0, 1), y.flatten())
        accuracy = (scores.argmax(-1) == y).float().mean()
        bits = loss / math.log(2)
        for share in per_character:
            bits = bits * share[0]
        return {"loss": loss, "bits_per_char": bits, "accuracy": accuracy}


def _windows(text: Tensor, start: Tensor, context: int) -> Batch:
    window = text[start.unsqueeze(-1) + torch.arange(context + 1, device=text.device)].long()
    return window[..., :-1], window[..., 1:]
