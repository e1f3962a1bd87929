"""Image classification: scikit-learn's digits, or Fashion-MNIST, by a perceptron or a small vision transformer.

The perceptron is the default: on 1,437 digits the transformer learns no more, costs three times as much, and its gaps
between recipes vary more by seed.

Learning rates, held-out loss over 2 seeds, float32; a default is half the best of its scan, where paired gaps are steady:
  digits, mlp (150 steps)  1e-3 .1673 | 2e-3 .0875 | 4e-3 .0642 | 8e-3 .0445 | 1.6e-2 .0716     (2.31 at the start)
  digits, vit              1e-3 .1553 | 2e-3 .0805 | 4e-3 .0601 | 8e-3 .0834 | 1.6e-2 .1143     (2.42 at the start)
  fashion-mnist, mlp       1e-3 .4736 | 2e-3 .4436 | 4e-3 .4318 | 8e-3 .4368 | 1.6e-2 .4690     (2.31 at the start)
  fashion-mnist, vit       1e-3 .733 | 2e-3 .617 | 4e-3 .593 | 8e-3 .663 (1 seed); small: 5e-4 .353 | 1e-3 .338 | 2e-3 .347
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from tasks import options
from tasks.base import Batch, Model, Task, Training
from tasks.data.images import IMAGES, Images, load_images
from tasks.nets.mlp import Mlp
from tasks.nets.vit import Vit
from tasks.streams import rows


@dataclass(frozen=True)
class Size:
    """Depth, width, heads and SwiGLU width of the transformer; the perceptron has two hidden layers of 2 × width.

    `steps` and `batch`: how many times as long and as wide as `tiny` it trains.
    """

    depth: int
    width: int
    heads: int
    hidden: int
    steps: int = 1
    batch: int = 1

    def grow(self, tiny: Training, longer: bool = True) -> Training:
        """The training of this size, from that of the size `tiny`; `longer`: and on more images."""
        return tiny.grown(self.width / 64, self.steps if longer else 1, self.batch if longer else 1)


SIZES = {"tiny": Size(2, 64, 2, 160), "small": Size(4, 128, 4, 352, 4, 2), "base": Size(6, 256, 8, 704, 8, 4)}
PATCH = {"digits": 4, "fashion-mnist": 4}  # 4 and 49 tokens

HELD_OUT = 2000  # images at most
TINY = {
    ("digits", "mlp"): Training(steps=100, batch=64, lr=4e-3),
    ("digits", "vit"): Training(steps=100, batch=32, lr=2e-3),
    ("fashion-mnist", "mlp"): Training(steps=300, batch=64, lr=2e-3),
    ("fashion-mnist", "vit"): Training(steps=200, batch=32, lr=2e-3),
}


@dataclass(frozen=True)
class Image(Task[Images]):
    """Options: `source` digits | fashion-mnist, `size` tiny | small | base, `net` mlp | vit.

    The loss is the cross-entropy in nats; `accuracy` and `error` are shares of the held-out images.
    """

    name: ClassVar[str] = "image"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "loss"

    source: str = "digits"
    size: str = "tiny"
    net: str = "mlp"

    def __post_init__(self) -> None:
        options.choice(self.name, "source", self.source, IMAGES)
        options.choice(self.name, "size", self.size, SIZES)
        options.choice(self.name, "net", self.net, ("vit", "mlp"))

    def training(self) -> Training:
        longer = self.source != "digits"  # 1,437 images: more steps only learn them by heart
        return SIZES[self.size].grow(TINY[self.source, self.net], longer)

    def load(self, data_dir: Path | None = None) -> Images:
        return load_images(self.source, data_dir)

    def model(self, data: Images) -> nn.Module:
        size, side = SIZES[self.size], data.x.shape[-1]
        if self.net == "mlp":
            return nn.Sequential(nn.Flatten(-2), Mlp([side * side, 2 * size.width, 2 * size.width], data.classes))
        return Vit(side, PATCH[self.source], size.width, size.depth, size.heads, size.hidden, data.classes)

    def exempt(self) -> tuple[str, ...]:
        return ("embed", "head") if self.net == "vit" else ("*head",)

    def batch(self, data: Images, seed: int, step: int, size: int) -> Batch:
        """Standardized images [size, S, S] and labels [size]."""
        chosen = rows(data.x, seed, step, size)
        return data.standard(data.x[chosen]), data.y[chosen]

    def loss(self, model: Model, batch: Batch) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y)

    def held_out(self, data: Images) -> list[Batch]:
        x, y = data.test_x[:HELD_OUT], data.test_y[:HELD_OUT]
        return [(data.standard(a), b) for a, b in zip(x.split(500), y.split(500), strict=True)]

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        scores = model(x)
        accuracy = (scores.argmax(-1) == y).float().mean()
        return {"loss": F.cross_entropy(scores, y), "accuracy": accuracy}
