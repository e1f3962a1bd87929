"""The rate of several workers, and what is said about their results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dse.bench.workers import QUICK, WorkersRun, compare, measure_workers
from dse.results.record import FAILED, OK, Record


def test_the_rate_counts_what_comes_in_after_every_first_pack() -> None:
    assert WorkersRun(1, 20.0, ((5.0, 4), (6.0, 4), (7.0, 4))).rate == 4.0
    together = WorkersRun(2, 20.0, ((5.0, 4), (5.5, 4), (6.5, 4), (6.5, 4)))
    assert together.rate == 8.0
    idle_at_the_end = WorkersRun(2, 20.0, ((5.0, 4), (5.5, 4), (6.5, 4), (7.5, 4)))
    assert idle_at_the_end.rate == 4.0


def test_results_that_differ_are_named() -> None:
    one = [Record(uid, "b", OK, "lm", "bf16", "bf16", 0, {}, metric=2.0, device="cpu") for uid in ("u", "v")]
    assert compare(one, one[::-1]) == "2 of 2 records equal bit for bit, metrics within 0"
    with pytest.raises(RuntimeError, match="for one: v"):
        compare(one, one[:1])
    with pytest.raises(RuntimeError, match="for one: v"):
        compare(one, [one[0], replace(one[1], status=FAILED)])
    near = [one[0], replace(one[1], metric=2.01)]
    with pytest.raises(RuntimeError, match=r"differ by up to 0\.005"):
        compare(one, near)
    on_gpu = [[replace(record, device="NVIDIA") for record in records] for records in (one, near)]
    assert compare(*on_gpu) == "1 of 2 records equal bit for bit, metrics within 0.005"


@pytest.mark.slow
def test_two_workers_give_the_results_of_one(tmp_path: Path) -> None:
    rows = measure_workers("cpu", tmp_path, QUICK)
    assert [row.figure for row in rows] == ["one worker", "two workers", "wall clock"]
    assert all(row.value and row.value > 0 for row in rows)
    assert "16 of 16 records equal bit for bit" in rows[2].note
