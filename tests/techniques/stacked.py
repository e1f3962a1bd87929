"""Packs of members for the tests of optimizers and of what else works on flat buffers."""

from __future__ import annotations

import torch
from torch import Tensor

from dse.optim import Hyper, Optimizer
from dse.optim.layout import Layout

SHAPES = {"w": (5, 7), "b": (3,), "scale": (), "u": (4, 16), "t": (7, 5)}
LAYOUT = Layout.of(((name, torch.empty(shape)) for name, shape in SHAPES.items()), hidden=("w", "u", "t"))
MATRIX_LR = (0.02, 0.05, 0.01)
LR, BETA1, BETA2, DECAY = (0.01, 0.03, 0.005), (0.9, 0.8, 0.0), (0.95, 0.999, 0.9), (0.1, 0.0, 0.3)


def normal(*shape: int, seed: int) -> Tensor:
    print("seed", seed)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def members(count: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A flat buffer [count, P] of normal numbers with the padding at zero; member i is the same for every count."""
    rows = [
        LAYOUT.join([normal(1, *shape, seed=1000 * seed + 10 * i + j) for j, shape in enumerate(SHAPES.values())])
        for i in range(count)
    ]
    return torch.cat(rows).to(dtype)


def gradients(seed: int, steps: int, count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A flat buffer for each step."""
    return [members(count, seed + n, dtype) for n in range(steps)]


def setting(values: tuple[float, ...], count: int) -> Tensor:
    """Member i's number is values[i modulo their number], float64 [count, 1]."""
    return torch.tensor([[values[i % len(values)]] for i in range(count)], dtype=torch.float64)


def hyper(count: int, step: int, lr: tuple[float, ...] = LR, decay: tuple[float, ...] = DECAY) -> Hyper:
    """Different numbers for three neighboring members."""
    betas = setting(BETA1, count), setting(BETA2, count)
    return Hyper(setting(lr, count), *betas, setting(decay, count), torch.tensor(step), setting(MATRIX_LR, count))


def rows(state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    """Member i's part of a state, as the state of a pack of one."""
    return {name: value[i : i + 1].clone() for name, value in state.items()}


def train(
    optimizer: Optimizer, p: Tensor, gradients: list[Tensor], active: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Parameters and state after a step per gradient; ``active`` [steps, E] or everybody."""
    p, count = p.clone(), len(p)
    state = optimizer.state(p, LAYOUT)
    for step, g in enumerate(gradients):
        on = torch.ones(count, 1, dtype=torch.bool) if active is None else active[step, :, None]
        kept = g.clone()
        optimizer.update(p, g, state, hyper(count, step), LAYOUT, on)
        assert torch.equal(g, kept) or g.isnan().any()
    return p, state


def same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, signs of zero and NaN included."""
    return a.shape == b.shape and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
