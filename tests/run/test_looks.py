"""Probe rows as a bounded number of MLflow metrics."""

from __future__ import annotations

from statistics import median

from dse.numerics.points import Point
from dse.run.tracking.probe_series import POINTS, series

QUANTITIES = ("error", "qsnr", "flushed", "saturated", "changed", "cosine", "bias", "shrink")


def rows(steps: range, layers: int) -> list[list[object]]:
    return [
        [step, f"l{layer}", point, dict.fromkeys(QUANTITIES, (step + 1) * (layer + 1) * (-1) ** layer / 1000.0)]
        for step in steps
        for layer in range(layers)
        for point in (*(point.path for point in Point), "dgrad", "wgrad")
    ]


def test_median_and_worst_over_the_layers() -> None:
    found = {(name, step): value for name, value, step in series(rows(range(3), 4))}
    values = [(layer + 1) * (-1) ** layer * 2 / 1e3 for layer in range(4)]
    assert found["probe/wgrad/error/median", 1] == median(values)
    assert found["probe/wgrad/error/worst", 1] == min(values)  # -8, the largest by size
    assert found["probe/wgrad/cosine/worst", 1] == min(values)  # farthest from 1
    assert found["probe/wgrad/cosine/l2", 1] == values[2]
    assert found["probe/dgrad.lhs/error/l3", 2] == -4 * 3 / 1e3
    assert not any("qsnr" in name for name, _ in found)


def test_never_more_than_fit() -> None:
    many = series(rows(range(500), 60))
    assert len(many) <= POINTS
    steps = sorted({step for _, _, step in many})
    assert (steps[0], steps[-1], len(steps)) == (0, 499, 12)
    names = {name for name, _, _ in many}
    assert len([name for name in names if name.endswith("/median")]) == 10
    assert {"probe/wgrad/cosine/l0", "probe/fprop.rhs/changed/worst"} <= names
    assert len(many) == len({(name, step) for name, _, step in many})


def test_what_is_not_finite_is_left_out() -> None:
    assert series([[0, "a", "wgrad", {"error": None, "scales": {"0": 3}}]]) == []
    assert series([]) == []
