"""Convolutional networks for small images [B, S, S] (grey) or [B, C, S, S]: the paper's, ResNet-18's shape, a U-Net.

Nothing in them keeps statistics of a batch, so they run under `torch.func.vmap`: GroupNorm stands for BatchNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.tasks.nets.activations import silu
from dse.tasks.nets.masters import Masters, wide
from dse.tasks.nets.norm import LayerNorm


class GroupNorm(Masters, nn.Module):
    """(x - mean) / deviation within each of `groups` groups of channels, scaled and shifted (arXiv 1803.08494).

    Written out, over contiguous rows, so that a member of a pack has the bits of its solo run; FP32 inside, and in the
    dtype of x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = next(n for n in (32, 16, 8, 4, 2, 1) if channels % n == 0 and channels // n >= min(8, channels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        rows = wide(x).reshape(x.shape[0], self.groups, -1)
        rows = rows - rows.mean(-1, keepdim=True)
        rows = rows * (rows.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        y: Tensor = rows.view(x.shape) * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)


class Cnn(nn.Module):
    """Two 3×3 convolutions, each with ReLU and 2×2 max-pooling, linears with ReLU, `head` (arXiv 2509.17791).

    `norm`: a LayerNorm before the linears, as the paper has it for CIFAR-10.
    """

    def __init__(
        self, side: int, channels: int, width: int, hidden: Sequence[int], classes: int, norm: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.conv = nn.Conv2d(width, 2 * width, 3, padding=1)
        features = [2 * width * (side // 4) ** 2, *hidden]
        self.norm = LayerNorm(features[0]) if norm else nn.Identity()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(features))
        self.head = nn.Linear(features[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(x))
        return y

    def features(self, x: Tensor) -> Tensor:
        """What `head` sees: [B, hidden[-1]]."""
        for conv in (self.stem, self.conv):
            x = F.max_pool2d(conv(colored(x)).relu(), 2)
        x = self.norm(x.flatten(1))
        for layer in self.layers:
            x = layer(x).relu()
        return x


class Basic(nn.Module):
    """A residual block of two 3×3 convolutions (arXiv 1512.03385)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = GroupNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = GroupNorm(width)
        plain = stride == 1 and channels == width
        self.shortcut = nn.Identity() if plain else nn.Conv2d(channels, width, 1, stride, bias=False)
        self.norm3 = nn.Identity() if plain else GroupNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        total: Tensor = y + self.norm3(self.shortcut(x))
        return total.relu()


class ResNet(nn.Module):
    """`blocks` residual blocks a stage, the width doubled and the side halved from stage to stage; mean; `head`.

    ResNet-18 is width 64 and blocks (2, 2, 2, 2); the stem is the 3×3 convolution usual for 32×32 pixels.
    """

    def __init__(self, channels: int, width: int, blocks: Sequence[int], classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = GroupNorm(width)
        self.blocks = nn.ModuleList()
        have = width
        for stage, count in enumerate(blocks):
            for i in range(count):
                self.blocks.append(Basic(have, width << stage, 2 if stage and not i else 1))
                have = width << stage
        self.head = nn.Linear(have, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(colored(x))).relu()
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(x.flatten(2).mean(-1))
        return y


class Noisy(nn.Module):
    """A residual block of a U-Net: norm, SiLU, convolution, twice; the noise level's embedding is added between."""

    def __init__(self, channels: int, width: int, time: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.time = nn.Linear(time, width)
        self.norm2 = GroupNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Identity() if channels == width else nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        y = self.conv1(silu(self.norm1(x))) + self.time(level)[..., None, None]
        y = self.conv2(silu(self.norm2(y)))
        out: Tensor = y + self.shortcut(x)
        return out


class UNet(nn.Module):
    """Images and noise levels [B] (of order 1) -> such images, 0 at initialization; convolutions alone (DDPM's shape).

    Widths are `width` times each of `factors`; between them the side is halved by a strided convolution, and doubled by
    repetition and a convolution. The paper's is width 128, factors (1, 2, 4), 256 numbers for the noise level. `patch`:
    squares of so many pixels a side are channels, which makes larger images as cheap as smaller ones.
    """

    frequency: Tensor

    def __init__(self, channels: int, width: int, factors: Sequence[int], time: int, patch: int = 1) -> None:
        super().__init__()
        self.patch, channels = patch, channels * patch**2
        widths = [width * factor for factor in factors]
        self.register_buffer("frequency", torch.randn(time // 2) * 2.0)
        self.level = nn.Linear(time, time)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(Noisy(w, w, time) for w in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in steps)
        self.middle = Noisy(widths[-1], widths[-1], time)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in reversed(steps))
        self.up = nn.ModuleList(Noisy(2 * w, w, time) for w in reversed(widths[:-1]))
        self.norm = GroupNorm(width)
        self.head = nn.Conv2d(width, channels, 3, padding=1)
        initialize(self)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        angle = level.unsqueeze(-1) * self.frequency
        c = silu(self.level(torch.cat([angle.cos(), angle.sin()], dim=-1)))
        y, kept = self.stem(F.pixel_unshuffle(colored(x), self.patch)), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            y = block(y, c)
            kept.append(y)
            y = shrink(y)
        y = self.middle(y, c)
        for grow, block in zip(self.grow, self.up, strict=True):
            y = block(torch.cat([grow(doubled(y)), kept.pop()], dim=1), c)
        out = F.pixel_shuffle(self.head(silu(self.norm(y))), self.patch)
        return out if x.dim() == 4 else out.squeeze(1)


def colored(x: Tensor) -> Tensor:
    """Grey images [B, S, S] with a channel: [B, 1, S, S]; others as they are."""
    return x.unsqueeze(1) if x.dim() == 3 else x


def doubled(x: Tensor) -> Tensor:
    """Every pixel twice along both axes: [B, C, H, W] -> [B, C, 2 H, 2 W]."""
    batch, channels, height, width = x.shape
    wide = x[:, :, :, None, :, None].expand(batch, channels, height, 2, width, 2)
    return wide.reshape(batch, channels, 2 * height, 2 * width)


def initialize(model: nn.Module) -> None:
    """Kernels and matrices ~ N(0, 2 / inputs) (arXiv 1502.01852), `head` and `time` N(0, 1 / inputs); biases 0."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            gain = 1.0 if name.endswith(("head", "time", "level")) else 2.0
            nn.init.normal_(module.weight, std=(gain / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
