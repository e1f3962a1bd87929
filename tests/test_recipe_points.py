"""The six points of every recipe, against a table that people read: tests/recipe_points.txt.

``python -m tests.test_recipe_points`` prints the rows of the recipes as they are, for the table of a new recipe. A row
that changes is a recipe that no longer computes what its source says, or did not before: look there first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

from dse.numerics.attention import PRODUCTS, Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import GEMMS, POINTS, Recipe, override
from dse.numerics.registry import to_data
from dse.numerics.techniques.schedules.switch import Switch
from dse.recipes import RECIPES

TABLE = Path(__file__).with_name("recipe_points.txt")
COLUMNS = ("recipe", "point", "element", "rounding", "scale", "scale rounding", "block", "rotation", "source", "more")
WIDTHS = (34, 9, 12, 12, 26, 14, 8, 13, 8, 0)
_OWN_COLUMN = {"element", "scale", "block", "tile", "rounding", "scale_rounding", "tensor_scale", "choice"}


def rows(name: str, recipe: Recipe) -> Iterator[str]:
    """A row for each point of a recipe, of attention's products, of a last stage and of other layers by its rules; and
    one for what it has beside its points."""
    yield from _rows(name, recipe)
    schedule = recipe.schedule
    if isinstance(schedule, Switch):  # its GEMMs have rows of their own
        schedule = replace(schedule, to=Switch().to)
    beside = to_data(replace(recipe, schedule=schedule, attention=None, layers=(), backward_source="original"))
    if further := ", ".join(f"{key} {_text(own)}" for key, own in beside.items() if key not in GEMMS):
        yield f"{name}: {further}"
    if recipe.attention:
        for product in PRODUCTS:
            yield from _rows(f"{name} {product}", getattr(recipe.attention, product))
    if isinstance(recipe.schedule, Switch):
        yield from _rows(f"{name} switched", recipe.schedule.to)
    for rule in recipe.layers:
        if rule.recipe is None:
            yield f"{name}/{rule.name}: not quantized"
        else:
            yield from _rows(f"{name}/{rule.name}", rule.recipe)


def _rows(name: str, owner: Recipe | Product) -> Iterator[str]:
    for point in POINTS:
        gemm = point.partition(".")[0]
        products = {key: own for key, own in to_data(getattr(owner, gemm)).items() if key not in ("lhs", "rhs")}
        rotation = _text(products.pop("rotation", "-"))
        backward = gemm != "fprop" and point.endswith(".rhs")
        *own, more = _quantizer(owner.quantizer(point))
        if products:  # of the GEMM as a whole
            more = ", ".join([*[more] * (more != "-"), *(f"{key} {_text(value)}" for key, value in products.items())])
        cells = (name, point, *own, rotation, owner.backward_source if backward else "-", more)
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _quantizer(q: Quantizer) -> tuple[str, ...]:
    """Element (with a choice among several), rounding, scale (with what is above it), its rounding, block, and more."""
    if not isinstance(q, BlockQuantizer):
        return {"identity": "fp32", "bf16": "bf16"}[to_data(q)], "-", "-", "-", "-", "-"
    element = _text(to_data(q.element)) + (f" {_text(to_data(q.choice))}" if q.choice else "")
    scale = q.scale.name + (f" * {_text(to_data(q.tensor_scale))}" if q.tensor_scale else "")
    data = to_data(q)
    further = data["block"] if isinstance(data, dict) else {}
    more = ", ".join(f"{key} {_text(value)}" for key, value in further.items() if key not in _OWN_COLUMN)
    rounding, scale_rounding = (_text(to_data(own)) for own in (q.rounding, q.scale_rounding))
    return element, rounding, scale, scale_rounding, f"{q.tile or 'all'}x{q.block or 'all'}", more or "-"


def _text(data: Any) -> str:
    """Plain data in few characters: {'hadamard': {'size': 32}} -> hadamard(size 32)."""
    if isinstance(data, dict):
        return ", ".join(f"{k}({_inner(v)})" if isinstance(v, dict) else f"{k} {_text(v)}" for k, v in data.items())
    if isinstance(data, list):
        return "[" + " ".join(map(_text, data)) + "]"
    return f"{data:.6g}" if isinstance(data, float) else str(data)


def _inner(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in data.items())


def table() -> list[str]:
    head = "  ".join(f"{name:{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True)).rstrip()
    return [head, *(row for name, recipe in RECIPES.items() for row in rows(name, recipe))]


def test_every_point_of_every_recipe_is_what_the_table_says() -> None:
    said = TABLE.read_text(encoding="utf-8").splitlines()
    changes = list(unified_diff(said, table(), "the table", "the recipes", lineterm="", n=0))
    assert not changes, "recipes are other than their table (a new recipe needs rows of its own):\n" + "\n".join(
        changes
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("wgrad.lhs.element", "e1m2"),
        ("wgrad.lhs.rounding", "nearest_away"),
        ("wgrad.lhs.scale", "e8m0"),
        ("wgrad.lhs.scale_rounding", "up"),
        ("wgrad.lhs.tensor_scale", "delayed"),
        ("wgrad.lhs.block", 32),
        ("wgrad.lhs.statistic", "quest"),
        ("wgrad.rotation", {"hadamard": {"size": 64}}),
        ("backward_source", "forward"),
        ("weights", "q_ema"),
    ],
)
def test_a_change_of_any_column_is_seen(path: str, value: object) -> None:
    before, after = RECIPES["nvfp4"], override(RECIPES["nvfp4"], path, value)
    changed = set(rows("nvfp4", after)) - set(rows("nvfp4", before))
    assert changed
    assert all(row.split()[1].startswith(path.split(".")[0]) for row in changed if "." in path)


if __name__ == "__main__":
    print(*table(), sep="\n")
