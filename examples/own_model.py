"""A model of one's own: a small convolutional net on scikit-learn's digits, trained in BF16 and in NVFP4.

    python examples/own_model.py

The training loop is ordinary PyTorch; three calls are added to it.
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from dse import RECIPES, Recipe, after_step, before_step, coverage, override, quantize_, set_clock

STEPS, BATCH = 60, 32


def digits() -> tuple[Tensor, Tensor]:
    """Pictures [N, 1, 8, 8] and their digits [N], in a fixed random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(data.images, dtype=torch.float32)[order, None] / 16, torch.tensor(data.target)[order]


def net() -> nn.Module:
    torch.manual_seed(0)  # the same initialization under every recipe
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(recipe: Recipe) -> float:
    """The share of held-out pictures that are classified correctly after training under a recipe."""
    x, y = digits()
    model = net()
    quantize_(model, recipe, exempt=["0", "7"])  # the first and the last layer stay in high precision
    print(coverage(model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(STEPS):
        rows = torch.randint(len(x) - 300, (BATCH,), generator=torch.Generator().manual_seed(step))
        set_clock(model, seed=0, step=step)  # random bits are a function of (seed, step, layer, point)
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        before_step(model)  # weight rules, in recipes that have one
        optimizer.step()
        after_step(model)
    model.eval()
    with torch.no_grad():
        return float((model(x[-300:]).argmax(-1) == y[-300:]).float().mean())


def main() -> None:
    nearest = override(RECIPES["nvfp4"], "G.rounding", "nearest_even")
    for name, recipe in {"bf16": RECIPES["bf16"], "nvfp4": RECIPES["nvfp4"], "nvfp4, nearest": nearest}.items():
        print(f"{name}: accuracy {train(recipe):.3f}\n")


if __name__ == "__main__":
    main()
