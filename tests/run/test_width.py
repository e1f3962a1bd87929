"""How wide packs become: as far as time, memory and the gain allow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dse.recipes import RECIPES
from dse.tasks.base import Training
from dse.train import width
from dse.train.width import measured_width
from dse.trial import Trial, make_task


@pytest.fixture
def trials() -> list[Trial]:
    task = make_task("regression", {})
    return [Trial(task, Training(steps=100, batch=8, lr=0.01), RECIPES["bf16"], seed) for seed in range(40)]


def play(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], memory: dict[int, int] | None = None
) -> list[list[Trial]]:
    """Measurements are played: seconds per step, and bytes, by width. Returns what was asked for."""
    asked = list[list[Trial]]()

    def measure(trials: list[Trial], data: object, device: str) -> tuple[float, int]:
        asked.append(trials)
        if len(trials) not in seconds:
            raise torch.OutOfMemoryError("played")
        return seconds[len(trials)], (memory or {}).get(len(trials), 0)

    monkeypatch.setattr(width, "_measure", measure)
    return asked


def test_as_long_as_it_gains(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = play(monkeypatch, {4: 0.01, 8: 0.011, 16: 0.013, 32: 0.025})
    assert measured_width(trials, None, "cpu") == 16
    assert [len(found) for found in asked] == [4, 8, 16, 32]
    assert [trial.seed for trial in asked[0]] == [0, 10, 20, 30]  # spread over the whole


def test_at_most_all(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, dict.fromkeys((4, 8, 16, 32, 40, 10), 0.01))
    assert measured_width(trials, None, "cpu") == 40
    assert measured_width(trials[:10], None, "cpu") == 10


def test_a_pack_must_not_take_too_long(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {4: 0.1, 8: 0.11, 16: 0.2})  # 100 steps of 0.2 s and more would be too long
    assert measured_width(trials, None, "cpu") == 8
    play(monkeypatch, {4: 2.0})
    assert measured_width(trials, None, "cpu") == 1


def test_memory_is_the_limit_on_a_gpu(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 2000))
    asked = play(monkeypatch, {16: 0.01, 32: 0.011}, {16: 300, 32: 600})
    assert measured_width(trials, None, "cuda") == 32
    assert [trial.seed for trial in asked[1]] == list(range(32))  # those that will be trained
    asked = play(monkeypatch, {16: 0.01})
    assert measured_width(trials, None, "cuda") == 16  # 40 and 20 were out of memory
    assert [len(found) for found in asked] == [16, 40, 20]
    asked = play(monkeypatch, {4: 0.01})
    assert measured_width(trials, None, "cuda") == 4
    assert [len(found) for found in asked] == [16, 8, 4]


def test_a_gpu_grows_in_large_steps(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**9, 10**9))
    many = [replace(trials[0], seed=seed) for seed in range(512)]
    asked = play(monkeypatch, {16: 0.01, 64: 0.011, 256: 0.043, 512: 0.086})
    assert measured_width(many, None, "cuda") == 64
    assert [len(found) for found in asked] == [16, 64, 256]


def test_a_failing_first_step_is_left_to_its_own_pack(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {})
    assert measured_width(trials, None, "cpu") == 1


def test_really_measured(trials: list[Trial]) -> None:
    task = trials[0].task
    assert 1 <= measured_width(trials[:8], task.load(None), "cpu") <= 8
