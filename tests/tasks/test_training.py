"""Training settings: what is refused, and the learning rate of every step."""

from __future__ import annotations

from typing import Any

import pytest

from dse.errors import UserError
from dse.tasks import Training, diffusion, image

PLAIN = Training(steps=100, batch=8, lr=1.0)


def test_cosine_rises_then_falls_to_its_floor() -> None:
    rates = [PLAIN.lr_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)


def test_linear_and_constant() -> None:
    linear = Training(steps=11, batch=8, lr=2.0, warmup=0.0, schedule="linear", final_lr=0.0)
    assert [linear.lr_at(step) for step in range(11)] == pytest.approx([2.0 * (1 - step / 10) for step in range(11)])
    constant = Training(steps=4, batch=8, lr=2.0, warmup=0.5, schedule="constant")
    assert [constant.lr_at(step) for step in range(4)] == [1.0, 2.0, 2.0, 2.0]


def test_one_step_has_the_full_rate() -> None:
    assert Training(steps=1, batch=1, lr=1.0).lr_at(0) == 1.0


def test_scanned_rates_come_before_the_rule() -> None:
    for (source, net, size), lr in image.RATES.items():
        assert image.Image(source=source, size=size, net=net).training().lr == lr
    for (source, net, process, size), lr in diffusion.RATES.items():
        assert diffusion.Diffusion(source=source, size=size, process=process, net=net).training().lr == lr
    for task in (image.Image, diffusion.Diffusion):  # width 64 and 256, on digits not scanned at base
        assert task(size="base").training().lr == task().training().lr / 4


def test_lists_from_yaml_become_tuples() -> None:
    assert Training(steps=1, batch=1, lr=1.0, betas=[0.9, 0.99]) == Training(  # type: ignore[arg-type]
        steps=1, batch=1, lr=1.0, betas=(0.9, 0.99)
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps is 0; valid: from 1 to "),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"batch": True}, "batch must be a whole number"),
        ({"lr": -1}, "lr is -1"),
        ({"lr": "1e-3x"}, "lr must be a number"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"warmup": 2}, "warmup is 2; valid: from 0 to 1"),
        ({"schedule": "cosin"}, "did you mean 'cosine'?"),
        ({"betas": [0.9, 1.5]}, "betas is 1.5"),
        ({"betas": 0.9}, "betas must be a list of two numbers"),
        ({"betas": [0.9]}, "betas must be a list of two numbers"),
    ],
)
def test_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        Training(**{"steps": 1, "batch": 1, "lr": 1.0, **options})


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.1), (2, 1.0), (7, 0.0), (997, 0.3), (70_001, 0.1)])
def test_all_rates_at_once_are_those_of_the_steps(schedule: str, steps: int, warmup: float) -> None:
    training = Training(steps=steps, batch=1, lr=3.1e-3, warmup=warmup, schedule=schedule, final_lr=0.07)
    course = training.course()
    assert [training.lr * share for share in course.tolist()] == [training.lr_at(step) for step in range(steps)]


def test_ten_million_steps_are_no_lists() -> None:
    course = Training(steps=10_000_000, batch=1, lr=1.0).course()
    assert course.nbytes == 80_000_000
    assert course[[0, 999_999, -1]].tolist() == pytest.approx([1e-6, 1.0, 0.1])


def test_more_steps_than_fit_in_memory_are_refused() -> None:
    with pytest.raises(UserError, match=r"training: steps is 1000000000000; valid: from 1 to 1e\+08"):
        Training(steps=10**12, batch=1, lr=1.0)
