"""Diffusion: a small DiT, or a U-Net, learns to denoise the images of the image task, or any file of pictures.

`ddpm` is the paper's process and the default. In a run this short `edm`, which weighs all noise levels alike, is still
falling steeply, and its gaps between recipes vary more by seed (MXFP4: 2.3 ± .7 % of the improvement; ddpm: .66 ± .1).

A default is half the best learning rate: paired gaps between recipes are steadier there. Held-out loss by rate, mean of
2 seeds, at the default steps; sweeps/learning-rates.yaml in BF16 on an H100, 2026-11-27:

    fashion, ddpm             .002 .136 | .004 .122 | .008 .115 | .016 .113 | .032 .117
    fashion, edm              .002 .458 | .004 .409 | .008 .387 | .016 .377 | .032 .406
    fashion, ddpm, small      .002 .080 | .004 .0755 | .008 .0744 | .016 .079 | .032 .087
    fashion, edm, small       .001 .290 | .002 .267 | .004 .252 | .008 .253 | .016 .261
    fashion, ddpm, unet       .004 .154 | .008 .135 | .016 .125 | .032 .122 | .064 .137
    fashion, edm, unet        .002 .639 | .004 .560 | .008 .533 | .016 .728 | .032 .746
    fashion, edm, unet, small .001 .228 | .002 .213 | .004 .210 | .008 .216 | .016 .322

and before that on a CPU:

    digits, ddpm              .004 .181 | .008 .174 | .016 .181 | .032 .194 (float32)
    digits, edm               .002 .647 | .004 .587 | .008 .562 | .016 .555 (float32, batch 64)
    fashion, edm, base        .0005 .194 | .001 .185 | .002 .181 | .004 .181 (1 seed, float32)
    digits, ddpm, unet        .001 .226 | .002 .181 | .004 .160 | .008 .151 (1 seed, BF16)
    digits, edm, unet         .002 .645 | .004 .566 | .008 .527 (1 seed, BF16)
    emoji32, ddpm             .002 .184 | .004 .141 | .008 .124 (1 seed, BF16)

Not scanned, the rate of tiny times 64 / width: digits small and base, the U-Net small (ddpm) and base, ddpm base,
CIFAR-10 and other colored pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from dse.tasks import options
from dse.tasks.base import Batch, Model, Task, Training
from dse.tasks.data.images import IMAGES, PICTURES, Images, load_images
from dse.tasks.frechet import FEATURES, judge
from dse.tasks.image import PATCH, SIZES
from dse.tasks.means import mean
from dse.tasks.nets.conv import UNet
from dse.tasks.nets.dit import Dit
from dse.tasks.noise import PROCESSES
from dse.tasks.pictures import Pictures, count
from dse.tasks.streams import LEVEL, NOISE, generator, integers, normals, uniforms

TINY = {
    "digits": Training(steps=100, batch=32, lr=4e-3),
    "fashion-mnist": Training(steps=200, batch=16, lr=4e-3),
    "cifar10": Training(steps=200, batch=16, lr=4e-3),
}
COLOR = TINY["cifar10"]  # also of any file of pictures
RATES = {
    ("fashion-mnist", "dit", "ddpm", "tiny"): 8e-3,
    ("fashion-mnist", "dit", "edm", "tiny"): 8e-3,
    ("fashion-mnist", "dit", "ddpm", "small"): 4e-3,
    ("fashion-mnist", "dit", "edm", "small"): 2e-3,
    ("fashion-mnist", "unet", "ddpm", "tiny"): 16e-3,
    ("fashion-mnist", "unet", "edm", "tiny"): 4e-3,
    ("fashion-mnist", "unet", "edm", "small"): 2e-3,
}
"""Learning rates that were scanned; others are those of TINY times 64 / width."""
UNETS = {"tiny": (16, (1, 2), 32), "small": (32, (1, 2, 4), 64), "base": (128, (1, 2, 4), 256)}
"""Width, factors, numbers for the noise level; base is the paper's."""
HELD_OUT = 360  # images, taken in turn from the test split; a multiple of 3
STEPS = 20  # of the sampler
CONVOLVED = {"tiny": 60, "small": 240, "base": 360}  # by the U-Net, which costs more an image


@dataclass(frozen=True)
class Diffusion(Task[Images]):
    """Options: `source` digits | fashion-mnist | cifar10 | emoji32 (or the path of an .npz file of pictures), `size`
    tiny | small | base, `process` ddpm | edm, `net` dit | unet; `generate`: how many images to grade at the end (0:
    none).

    The loss is the process's denoising error, 1 for a network that answers 0, on fixed images with fixed noise at
    evenly spaced quantiles of the noise level; `loss_low`, `loss_mid`, `loss_high`: its thirds by rising noise.

    At the end every model makes images from the same fixed noise with a deterministic sampler of STEPS steps. The first
    few are kept for the report (`dse.tasks.pictures`); where `generate` is set, `frechet` is the Fréchet distance
    between so many and real ones, in the features of a classifier of the same data (`dse.tasks.frechet`). The few alone
    cost STEPS forward passes of 8 images (edm: 2 STEPS - 1): 1 to 4 % of a training, see docs/add-a-task.md.
    """

    name: ClassVar[str] = "diffusion"
    version: ClassVar[int] = 2
    metric: ClassVar[str] = "loss"

    source: str = "digits"
    size: str = "tiny"
    process: str = "ddpm"
    net: str = "dit"
    generate: int = 0

    def __post_init__(self) -> None:
        options.text(self.name, "source", self.source)
        if not self.source.endswith(".npz"):
            options.choice(self.name, "source", self.source, PICTURES)
        options.choice(self.name, "size", self.size, SIZES)
        options.choice(self.name, "process", self.process, PROCESSES)
        options.choice(self.name, "net", self.net, ("dit", "unet"))
        options.integer(self.name, "generate", self.generate, 0)
        if 0 < self.generate < 2 * FEATURES:
            options.integer(self.name, "generate", self.generate, 2 * FEATURES)
        if self.generate and self.source not in IMAGES:
            options.meaningless(self.name, "generate", self.generate, f"{self.source!r} has no classes to judge by")

    def training(self) -> Training:
        rule = SIZES[self.size].grow(TINY.get(self.source, COLOR))
        return replace(rule, lr=RATES.get((self.source, self.net, self.process, self.size), rule.lr))

    def load(self, data_dir: Path | None = None) -> Images:
        return load_images(self.source, data_dir)

    def model(self, data: Images) -> nn.Module:
        size = SIZES[self.size]
        if self.net == "unet":
            large = data.x.shape[-1] >= 28
            return UNet(data.channels, *UNETS[self.size], patch=2 if large and self.size == "tiny" else 1)
        return Dit(data.x.shape[-1], PATCH, size.width, size.depth, size.heads, size.hidden, data.channels)

    def exempt(self) -> tuple[str, ...]:
        if self.net == "unet":
            return ("stem", "level", "*.time", "head")
        return ("embed", "level", "blocks.*.modulation", "head")

    def batch(self, data: Images, seeds: Tensor, step: Tensor, size: int) -> Batch:
        """Images [E, size, (channels,) S, S], noise of the same shape, noise levels [E, size]."""
        x0 = data.standard(data.x[integers(seeds, step, size, len(data.x))])
        noise = normals(seeds, step, NOISE, size, data.x[0].numel()).view_as(x0)
        level = PROCESSES[self.process].level(uniforms(seeds, step, LEVEL, 1, size).squeeze(-2))
        return x0, noise, level.float()

    def loss(self, model: Model, batch: Batch) -> Tensor:
        return mean(PROCESSES[self.process].losses(model, *batch))

    def held_out(self, data: Images) -> list[Batch]:
        random = generator("held-out noise")
        count = CONVOLVED[self.size] if self.net == "unet" else HELD_OUT
        x0 = data.standard(data.test_x[torch.arange(count) % len(data.test_x)])
        noise = torch.randn(x0.shape, generator=random)
        level = PROCESSES[self.process].level((torch.arange(count) + 0.5) / count)
        return [(x0, noise.to(x0.device), level.to(x0.device))]

    def measure(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        losses = PROCESSES[self.process].losses(model, *batch)
        low, mid, high = mean(losses.unflatten(0, (3, -1)), keep=1)
        return {"loss": mean(losses), "loss_low": low, "loss_mid": mid, "loss_high": high}

    def prompts(self, data: Images) -> Batch:
        """Noise [n, (channels,) S, S], the lowest and the highest pixel []."""
        n = self.generate or count(data.x[0].numel())
        e = torch.randn(n, *data.x.shape[1:], generator=generator("samples"))
        return e.to(data.x.device), *_range(data)

    def samples(self, model: Model, batch: Batch) -> Tensor:
        return PROCESSES[self.process].sample(model, batch[0], STEPS, batch[1], batch[2])

    def grade(self, data: Images, samples: Tensor) -> dict[str, float]:
        return {"frechet": judge(data).distance(samples)} if self.generate else {}

    def show(self, data: Images, samples: Tensor) -> Pictures | None:
        return Pictures.of(samples, *_range(data))

    def real(self, data: Images) -> Pictures | None:
        return Pictures.of(data.standard(data.test_x[: count(data.x[0].numel())]), *_range(data))


def _range(data: Images) -> tuple[Tensor, Tensor]:
    """The lowest and the highest pixel [], standardized."""
    return data.standard(data.x.min()), data.standard(data.x.max())
