"""Streams of segments: what waits for what, also where a task fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from dse.pack import side_by_side as module
from dse.pack.side_by_side import side_by_side


class Recorded:
    """Stands in for a stream."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: Recorded) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    streams = tuple(Recorded(name, said) for name in "ab")

    @contextmanager
    def on(stream: Recorded) -> Iterator[None]:
        said.append(f"on {stream.name}")
        yield

    monkeypatch.setattr(module, "_streams", lambda device: streams)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Recorded("present", said))
    monkeypatch.setattr(torch.cuda, "stream", on)
    return said


def test_tasks_take_turns_on_streams_and_are_joined(log: list[str]) -> None:
    def task(number: int) -> int:
        log.append(f"task {number}")
        return number

    assert side_by_side([partial(task, n) for n in range(3)], torch.device("cuda")) == [0, 1, 2]
    assert log == [
        *("a waits for present", "b waits for present"),
        *("on a", "task 0", "on b", "task 1", "on a", "task 2"),
        *("present waits for a", "present waits for b"),
    ]


def test_streams_are_joined_after_a_failure(log: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: 1, lambda: 1 // 0], torch.device("cuda"))
    assert log[-2:] == ["present waits for a", "present waits for b"]


@pytest.mark.parametrize(("count", "device"), [(1, "cuda"), (3, "cpu"), (0, "cuda")])
def test_one_task_and_a_cpu_need_no_streams(count: int, device: str, log: list[str]) -> None:
    assert side_by_side([lambda: 7] * count, torch.device(device)) == [7] * count
    assert log == []
