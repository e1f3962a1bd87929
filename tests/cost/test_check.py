"""The time model against published measurements, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.cost.check import agreement, compared, fitted, measured_points
from dse.cost.check.table import lines, replaced
from dse.cost.roofline import constants
from dse.cost.roofline.constants import FITTED

DOCS = Path(__file__).parents[2] / "docs" / "cost-model.md"


def test_held_out_points_agree() -> None:
    held = [row for row in compared() if not row.point.fit]
    own = agreement(held)
    assert own.points >= 50
    assert own.points > 4 * sum(point.fit for point in measured_points())
    assert own.error <= 0.2
    assert own.rank >= 0.9


def test_the_constants_are_those_that_the_points_give() -> None:
    anew = fitted()
    for name in FITTED:
        assert getattr(constants(), name) == pytest.approx(getattr(anew, name), rel=2e-3), name


def test_the_page_is_current() -> None:
    page = DOCS.read_text(encoding="utf-8")
    rows = compared()
    assert page == replaced(page, "\n".join(lines(rows, constants()))), (
        "run: dse cost --check --docs docs/cost-model.md"
    )
    misses = [row.point for row in rows if not row.point.fit and abs(row.error) > 0.3]
    assert misses
    assert page.count("**misses**") == len(misses)
