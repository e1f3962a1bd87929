"""The random streams of batches: uniform, normal, apart from each other, and each member's its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dse.numerics.random import Key
from dse.tasks import TASKS, Task
from dse.tasks.base import single
from dse.tasks.streams import LAYER, LEVEL, NOISE, ROWS, integers, normals, uniforms, words

STEP = torch.tensor(5)
SEEDS = torch.tensor([3, 0, 2**40 + 3, 7])  # two seeds whose low words agree


@pytest.mark.parametrize("task", [TASKS["regression"](), TASKS["image"](), TASKS["diffusion"](), TASKS["lm"]()])
def test_a_member_draws_what_it_draws_alone(task: Task[Any]) -> None:
    data = task.load()
    whole = task.batch(data, SEEDS, STEP, 5)
    for i, seed in enumerate(SEEDS.tolist()):
        alone = task.batch(data, SEEDS[i : i + 1], STEP, 5)
        for part, mine, plain in zip(whole, alone, single(task, data, seed, 5, 5), strict=True):
            assert torch.equal(part[i], mine[0])
            assert torch.equal(part[i], plain)
            assert part.shape == (4, *plain.shape)
    assert not torch.equal(whole[0][0], whole[0][2])
    assert {part.dtype for part in whole} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("count", [1, 2, 7, 1437, 2**31 - 1])
def test_integers_fill_their_range(count: int) -> None:
    drawn = integers(SEEDS, STEP, 4096, count)
    assert drawn.shape == (4, 4096)
    assert drawn.min() >= 0
    assert drawn.max() < count
    assert drawn.double().mean().item() == pytest.approx((count - 1) / 2, rel=0.03)
    assert torch.equal(drawn[:, :100], integers(SEEDS, STEP, 100, count))  # of a smaller batch, too
    if count == 7:
        shares = drawn.flatten().bincount(minlength=7) / drawn.numel()
        assert (shares - 1 / 7).abs().max() < 0.01


def test_uniforms_and_normals_have_their_distribution() -> None:
    u, z = uniforms(SEEDS, STEP, LEVEL, 64, 100), normals(SEEDS, STEP, NOISE, 64, 100)
    count = u.numel()
    assert (u.dtype, z.dtype, z.shape) == (torch.float64, torch.float32, (4, 64, 100))
    assert 0 < u.min() < u.max() < 1
    places = (torch.arange(count) + 0.5) / count
    for sample in (u.flatten(), torch.special.ndtr(z.double()).flatten()):
        distance = (sample.sort().values - places).abs().max().item()  # Kolmogorov and Smirnov's
        assert distance < 1.95 / count**0.5  # exceeded once in a thousand seeds
    rows = z.flatten(0, 1)
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 0.6


def test_the_ends_of_the_words_give_finite_normals() -> None:
    ends = (torch.tensor([0, 2**32 - 1]).double() + 0.5) * 2.0**-32
    low, high = torch.special.ndtri(ends).tolist()
    assert low == pytest.approx(-high, rel=1e-6)
    assert 6.33 < high < 6.34


def test_streams_are_apart() -> None:
    streams = [words(SEEDS, STEP, point, 1, 64) for point in (ROWS, LEVEL, NOISE)]
    streams.append(words(SEEDS, STEP + 1, ROWS, 1, 64))
    clock = torch.stack([SEEDS, STEP.expand(4)], -1)
    streams += [Key(clock, layer, point).bits(1, 64, 32) for layer in (0, 500) for point in (0, 1, 2)]
    everything = torch.stack(streams).flatten()
    assert len(everything.unique()) > len(everything) - 5
    assert 10_000 < LAYER < 2**31  # above any model's layers, inside a signed word
