"""Image classification: digits, Fashion-MNIST or CIFAR-10 by a perceptron, a vision transformer or convolutions.

The perceptron is the default: on 1,437 digits the transformer costs four times as much to reach the same loss, and its
gaps between recipes vary more by seed (MXFP4: .6 ± .25 % of the improvement, against .73 ± .10 %).

A default is half the best learning rate: paired gaps between recipes are steadier there (vit, MXFP4: deviation over
seeds .25 % of the improvement at .002, .7 % at .004). Held-out loss by rate, mean of 2 seeds, at the default steps;
sweeps/learning-rates.yaml in BF16 on an H100, 2026-11-27:

    fashion, mlp            .001 .448 | .002 .418 | .004 .407 | .008 .406 | .016 .431
    fashion, mlp, small     .0005 .346 | .001 .315 | .002 .300 | .004 .307 | .008 .333
    fashion, vit            .001 .729 | .002 .625 | .004 .586 | .008 .664 | .016 .836
    fashion, vit, small     .0005 .357 | .001 .341 | .002 .341 | .004 .383 | .008 .484 (.001 and .002: the same)
    fashion, cnn            .002 .415 | .004 .386 | .008 .381 | .016 .402 | .032 .470
    fashion, cnn, small     .0005 .308 | .001 .286 | .002 .276 | .004 .280 | .008 .295
    fashion, resnet         .004 1.28 | .008 1.19 | .016 1.12 | .032 1.09 | .064 1.20
    fashion, resnet, small  .004 .404 | .008 .388 | .016 .378 | .032 .374 (the scan's edge)
    digits, mlp, small      .002 .078 | .004 .068 | .008 .062 | .016 .053 | .032 .070
    digits, vit, small      .00025 .104 | .0005 .052 | .001 .036 | .002 .061 | .004 .067
    digits, cnn, small      .004 .065 | .008 .054 | .016 .039 | .032 .099 | .064 .317
    digits, resnet, small   .001 .078 | .002 .049 | .004 .055 | .008 .058 | .016 .058

and before that on a CPU:

    digits, mlp             .001 .289 | .002 .127 | .004 .084 | .008 .051 | .016 .055 (float32)
    digits, vit             .001 .155 | .002 .081 | .004 .060 | .008 .083 | .016 .114 (float32)
    digits, cnn             .001 .598 | .002 .277 | .004 .132 | .008 .103 | .016 .070 (1 seed, BF16)
    digits, resnet          .001 1.97 | .002 1.68 | .004 1.26 | .008 .906 | .016 .714 (1 seed, BF16, 60 steps)

Not scanned: CIFAR-10 (a guess) and the size base (the rate of tiny times 64 / width).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.tasks import options
from dse.tasks.base import Batch, Model, Task, Training
from dse.tasks.data.images import IMAGES, Images, load_images
from dse.tasks.means import cross_entropy
from dse.tasks.nets.conv import Cnn, ResNet
from dse.tasks.nets.mlp import Mlp
from dse.tasks.nets.vit import Vit
from dse.tasks.streams import integers


@dataclass(frozen=True)
class ImageSize:
    """Depth, width, heads and SwiGLU width of the transformer; the perceptron has two hidden layers of 2 × width.

    `steps` and `batch`: how many times as long and as wide as `tiny` it trains. `cnn`: width of the first convolution,
    then of the linears (`small` is the paper's net for MNIST, `base` its net for CIFAR-10); `resnet`: width of the
    first stage, blocks in each (`base` is ResNet-18).
    """

    depth: int
    width: int
    heads: int
    hidden: int
    steps: int = 1
    batch: int = 1
    cnn: tuple[int, ...] = (16, 64)
    resnet: tuple[int, ...] = (16, 1, 1)

    def grow(self, tiny: Training, longer: bool = True) -> Training:
        """The training of this size, from that of the size `tiny`; `longer`: and on more images."""
        return tiny.grown(self.width / 64, self.steps if longer else 1, self.batch if longer else 1)


SIZES = {
    "tiny": ImageSize(2, 64, 2, 160),
    "small": ImageSize(4, 128, 4, 352, 4, 2, cnn=(32, 128), resnet=(32, 1, 1, 1)),
    "base": ImageSize(6, 256, 8, 704, 8, 4, cnn=(32, 512, 128), resnet=(64, 2, 2, 2, 2)),
}
NETS = ("mlp", "vit", "cnn", "resnet")
PATCH = 4  # 4 tokens of a digit, 49 of a piece of clothing

HELD_OUT = 2000  # images at most
CONVOLVED = {"tiny": 500, "small": 1000, "base": 2000}  # by convolutions, which cost more an image
TINY = {
    ("digits", "mlp"): Training(steps=100, batch=64, lr=4e-3),
    ("digits", "vit"): Training(steps=100, batch=32, lr=2e-3),
    ("fashion-mnist", "mlp"): Training(steps=300, batch=64, lr=4e-3),
    ("fashion-mnist", "vit"): Training(steps=200, batch=32, lr=2e-3),
    ("cifar10", "mlp"): Training(steps=300, batch=64, lr=2e-3),
    ("cifar10", "vit"): Training(steps=300, batch=64, lr=2e-3),
    ("digits", "cnn"): Training(steps=100, batch=32, lr=8e-3),
    ("fashion-mnist", "cnn"): Training(steps=200, batch=32, lr=4e-3),
    ("cifar10", "cnn"): Training(steps=400, batch=64, lr=4e-3),
    ("digits", "resnet"): Training(steps=100, batch=32, lr=8e-3),
    ("fashion-mnist", "resnet"): Training(steps=150, batch=32, lr=16e-3),
    ("cifar10", "resnet"): Training(steps=400, batch=64, lr=4e-3),
}
RATES = {
    ("digits", "mlp", "small"): 8e-3,
    ("digits", "vit", "small"): 5e-4,
    ("digits", "cnn", "small"): 8e-3,
    ("digits", "resnet", "small"): 1e-3,
    ("fashion-mnist", "mlp", "small"): 1e-3,
    ("fashion-mnist", "vit", "small"): 1e-3,
    ("fashion-mnist", "cnn", "small"): 1e-3,
    ("fashion-mnist", "resnet", "small"): 16e-3,
}
"""Learning rates that were scanned; other sizes have that of tiny times 64 / width."""


@dataclass(frozen=True)
class Image(Task[Images]):
    """Options: `source` digits | fashion-mnist | cifar10, `size` tiny | small | base, `net` mlp | vit | cnn | resnet;
    `rotated`: degrees by which all images are turned (0 | 90 | 180 | 270), as other data for a trained net.

    The loss is the cross-entropy in nats; `accuracy` is a share of the held-out images.
    """

    name: ClassVar[str] = "image"
    version: ClassVar[int] = 2
    metric: ClassVar[str] = "loss"
    classifies: ClassVar[bool] = True

    source: str = "digits"
    size: str = "tiny"
    net: str = "mlp"
    rotated: int = 0

    def __post_init__(self) -> None:
        options.choice(self.name, "source", self.source, IMAGES)
        options.choice(self.name, "size", self.size, SIZES)
        options.choice(self.name, "net", self.net, NETS)
        options.integer(self.name, "rotated", self.rotated, 0, 270)
        if self.rotated % 90:
            raise UserError(f"image: rotated is {self.rotated}; valid: 0, 90, 180, 270")

    def training(self) -> Training:
        longer = self.source != "digits"  # 1,437 images: more steps only learn them by heart
        rule = SIZES[self.size].grow(TINY[self.source, self.net], longer)
        return replace(rule, lr=RATES.get((self.source, self.net, self.size), rule.lr))

    def load(self, data_dir: Path | None = None) -> Images:
        data = load_images(self.source, data_dir)
        x, test_x = (torch.rot90(pixels, self.rotated // 90, (-2, -1)).contiguous() for pixels in (data.x, data.test_x))
        return replace(data, x=x, test_x=test_x)

    def model(self, data: Images) -> nn.Module:
        size, side, channels = SIZES[self.size], data.x.shape[-1], data.channels
        if self.net == "mlp":
            widths = [channels * side * side, 2 * size.width, 2 * size.width]
            return nn.Sequential(nn.Flatten(-2 if channels == 1 else -3), Mlp(widths, data.classes))
        if self.net == "cnn":
            width, *hidden = size.cnn
            return Cnn(side, channels, width, hidden, data.classes, norm=self.size == "base")
        if self.net == "resnet":
            width, *blocks = size.resnet
            return ResNet(channels, width, blocks, data.classes)
        return Vit(side, PATCH, size.width, size.depth, size.heads, size.hidden, data.classes, channels)

    def exempt(self) -> tuple[str, ...]:
        return {"mlp": ("*head",), "vit": ("embed", "head")}.get(self.net, ("stem", "head"))

    def batch(self, data: Images, seeds: Tensor, step: Tensor, size: int) -> Batch:
        """Standardized images [E, size, (channels,) S, S] and labels [E, size]."""
        chosen = integers(seeds, step, size, len(data.x))
        return data.standard(data.x[chosen]), data.y[chosen]

    def loss(self, model: Model, batch: Batch) -> Tensor:
        x, y = batch
        return cross_entropy(model(x), y)

    def held_out(self, data: Images) -> list[Batch]:
        count = CONVOLVED[self.size] if self.net in ("cnn", "resnet") else HELD_OUT
        x, y = data.test_x[:count], data.test_y[:count]
        return [(data.standard(a), b) for a, b in zip(x.split(500), y.split(500), strict=True)]

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        scores = model(x)
        accuracy = (scores.argmax(-1) == y).float().mean()
        return {"loss": cross_entropy(scores, y), "accuracy": accuracy}
