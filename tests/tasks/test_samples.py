"""Samples from fixed noise, and how far they are from real images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dse.errors import UserError
from dse.recipes import RECIPES
from dse.results.record import Record
from dse.tasks import TASKS
from dse.tasks.frechet import apart, frechet, judge, moments
from dse.tasks.noise import PROCESSES
from dse.tasks.pictures import Pictures
from dse.train.loop import run_pack, run_trial
from dse.trial import Trial

WIDE = torch.tensor(-50.0), torch.tensor(50.0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_right_network_samples_the_data(name: str) -> None:
    """Data of one Gaussian N(m, s²): its best denoiser is linear, and the sampler must give back mean and deviation."""
    process, m, s = PROCESSES[name], 0.7, 0.4
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = (1 - beta).cumprod(0)

    def edm(x: Tensor, level: Tensor) -> Tensor:
        sigma = (4 * level).double().exp()[:, None, None]
        total = (1 + sigma**2).sqrt()
        noisy = x.double() * total
        clean = (s**2 * noisy + sigma**2 * m) / (s**2 + sigma**2)
        return ((clean - noisy / total**2) * total / sigma).float()

    def ddpm(x: Tensor, level: Tensor) -> Tensor:
        a = kept[((level + 1) * 500).round().long()][:, None, None]
        noise = (1 - a).sqrt() * (x.double() - a.sqrt() * m) / (a * s**2 + 1 - a)
        return noise.float()

    e = torch.randn(400, 4, 4, generator=torch.Generator().manual_seed(0))
    model: Any = {"edm": edm, "ddpm": ddpm}[name]
    x = process.sample(model, e, 60, *WIDE)
    assert x.mean().item() == pytest.approx(m, abs=0.03)
    assert x.std().item() == pytest.approx(s, rel=0.06)
    assert torch.corrcoef(torch.stack([x.flatten(), e.flatten()]))[0, 1] > 0.99  # noise decides the image
    assert torch.equal(x, process.sample(model, e, 60, *WIDE))
    assert process.sample(model, e, 60, torch.tensor(0.5), torch.tensor(0.6)).max() < 1.0


def test_frechet_distance_of_known_gaussians() -> None:
    c = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    d = torch.diag(torch.tensor([4.0, 1.0, 9.0], dtype=torch.float64))
    m, n = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    assert frechet((m, c), (m, c)) == pytest.approx(0.0, abs=1e-9)
    assert frechet((m, c), (n, d)) == pytest.approx(9 + 1 + 1)  # |n|² + Σ (√c - √d)²
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    assert frechet((m, turn @ c @ turn.T), (turn @ n, turn @ d @ turn.T)) == pytest.approx(11)
    x = torch.randn(5000, 3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0])
    assert frechet(moments(x), (m, c)) < 0.05


def test_the_judge_tells_real_images_from_noise() -> None:
    data = TASKS["diffusion"]().load()
    state = torch.get_rng_state()
    found = judge(data)
    assert torch.equal(state, torch.get_rng_state())
    assert judge(data) is found
    assert found.accuracy > 0.93
    real = found.distance(data.standard(data.test_x))
    blurred = found.distance(data.standard(data.test_x) * 0.7)
    noise = found.distance(torch.randn(360, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert 0 <= real < blurred < noise
    assert math.isnan(found.distance(torch.full((64, 8, 8), torch.nan)))


@pytest.mark.usefixtures("short_sampling")
@pytest.mark.parametrize("process", PROCESSES)
def test_graded_at_the_end_the_same_alone_and_in_a_pack(process: str) -> None:
    task = TASKS["diffusion"](process=process, generate=64)
    training = replace(task.training(), steps=4, batch=4)
    trials = [Trial(task, training, RECIPES[r], seed) for seed, r in enumerate(("bf16", "nvfp4"))]
    for record, trial in zip(run_pack(trials), trials, strict=True):
        assert record.error is None
        distance = record.metrics["frechet"]
        assert distance is not None
        assert distance > 0
        assert run_trial(trial).metrics == record.metrics
    assert "frechet" not in run_trial(replace(trials[0], task=TASKS["diffusion"]())).metrics


def test_samples_of_the_same_noise_are_compared_with_the_baselines() -> None:
    from dse.pack.step import TrainStep

    task = TASKS["diffusion"](generate=64)
    training = replace(task.training(), steps=30, batch=8)
    data = task.load()
    trials = [Trial(task, training, RECIPES[r], 0) for r in ("bf16", "nvfp4", "fp32")]
    program = TrainStep(trials, data, "cpu", False)
    for _ in range(training.steps):
        program.step()
    samples = program.pack.samples(data)
    assert samples is not None
    bf16, nvfp4, fp32 = samples
    assert apart(bf16, bf16) == 0
    assert 0 < apart(fp32, bf16) < apart(nvfp4, bf16) < 1.4
    kept = [task.show(data, one) for one in samples]
    assert all(kept)
    bf16, nvfp4, fp32 = (one.values() for one in kept if one)
    assert len(bf16) == 8
    assert apart(nvfp4, bf16) == pytest.approx(apart(samples[1][:8], samples[0][:8]), rel=0.01)
    assert apart(fp32, bf16) < apart(nvfp4, bf16)


def test_pictures_are_kept_the_same_alone_and_in_a_pack() -> None:
    task = TASKS["diffusion"]()
    training = replace(task.training(), steps=3, batch=4)
    wild = replace(training, lr=1e18, clip=0.0)
    trials = [Trial(task, training, RECIPES[r], seed) for seed, r in enumerate(("bf16", "nvfp4"))]
    lost = Trial(task, wild, RECIPES["mxfp4"], 0)
    records = run_pack([*trials, lost])
    for record, trial in zip(records, trials, strict=False):
        assert run_trial(trial).samples == record.samples
        assert Record.parse(record.line()).samples == record.samples
        assert Pictures.parse(record.samples["made"]).pixels.shape == (8, 8, 8)
        assert len(record.line()) < 12_000
    assert list(records[0].samples) == ["made", "real"]
    assert list(records[1].samples) == ["made"]
    assert records[2].status == "diverged"
    assert not records[2].samples
    data = task.load()
    assert (Pictures.parse(records[0].samples["real"]).pixels * (16 / 255)).round().astype(int).tolist() == (
        data.test_x[:8].tolist()
    )


@pytest.mark.parametrize("shape", [(5, 7, 7), (3, 3, 9, 9), (20, 40, 40)])
def test_pictures_as_png(shape: tuple[int, ...]) -> None:
    from io import BytesIO

    from matplotlib.image import imread

    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    made = Pictures.of(images, torch.tensor(-2.0), torch.tensor(2.0))
    assert made is not None
    n = min(8, len(images))
    assert np.abs(made.values().numpy() - 2 - images[:n].clamp(-2, 2).numpy()).max() <= 4 / 255 / 2 + 1e-6
    again = Pictures.parse(made.plain())
    assert np.array_equal(again.pixels, made.pixels)
    assert again.unit == pytest.approx(made.unit, rel=1e-5)
    seen = imread(BytesIO(made.strip(scale=2)), format="png")
    side, gap = 2 * shape[-1], 2 * max(1, shape[-1] // 8)
    assert seen.shape[:2] == (side, n * (side + gap) - gap)
    first = seen[:, :side][::2, ::2] * 255
    first = first if seen.ndim == 2 else first.transpose(2, 0, 1)
    assert np.array_equal(first.round(), made.pixels[0])
    assert Pictures.of(images / 0, torch.tensor(-2.0), torch.tensor(2.0)) is None


def test_what_cannot_be_graded() -> None:
    with pytest.raises(UserError, match="generate is 10; valid: at least 64"):
        TASKS["diffusion"](generate=10)
    with pytest.raises(UserError, match="no classes to judge by"):
        TASKS["diffusion"](source="emoji32", generate=128)
