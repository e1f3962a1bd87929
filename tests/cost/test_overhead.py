"""The cost model against the worked example it was derived with, and what any cost model must obey."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.cost import (
    B200,
    HARDWARE,
    LLAMA3_8B,
    MODELS,
    breakdown,
    excess,
    overhead,
    parse_shape,
    read_time,
    relative_time,
)
from dse.recipe import Recipe, override
from dse.recipes import RECIPES

LAYER = parse_shape("8192,4096,14336")
VECTOR_ONLY = replace(B200, dense_transforms=False)
PLAIN = RECIPES["nvfp4_plain"]  # six 1x16 quantizations with tensor scale, nothing shared


def share(recipe: Recipe, *techniques: str, hardware: object = B200) -> float:
    """Percent of the FP4 GEMM time that some techniques take in the worked example."""
    rows = breakdown(recipe, LAYER, hardware)  # type: ignore[arg-type]
    return sum(row.percent for row in rows if row.technique in techniques)


def test_the_worked_example() -> None:
    """Design-space model, Sec. 4: M = 8192, K = 4096, N = 14336, b = 16, 10 PFLOP/s FP4, 80 TFLOP/s vector.

    Base 7.5, tensor scale 1.0, stochastic G 6.1, stochastic G and X of wgrad 7.0; Hadamard 16 in wgrad 3.3 as a fast
    transform and .67 as a dense product, in all three GEMMs 9.1 and 1.9 (percent of the FP4 GEMM time).
    """
    assert (B200.fp4, B200.vector, B200.bf16) == (10e15, 80e12, 2.5e15)
    assert share(PLAIN, "e2m1 in blocks", "statistic") == pytest.approx(7.5, abs=0.05)
    assert share(PLAIN, "tensor scale") == pytest.approx(1.0, abs=0.05)
    stochastic = override(PLAIN, "G.rounding", "stochastic")
    assert share(stochastic, "element rounding") == pytest.approx(6.1, abs=0.05)
    assert share(override(stochastic, "wgrad.rhs.rounding", "stochastic"), "element rounding") == pytest.approx(
        7.0, abs=0.05
    )
    turned = override(PLAIN, "wgrad.rotation", {"hadamard": {"size": 16}})
    assert share(turned, "rotation", hardware=VECTOR_ONLY) == pytest.approx(3.3, abs=0.05)
    assert share(turned, "rotation") == pytest.approx(0.67, abs=0.005)
    for gemm in ("fprop", "dgrad"):
        turned = override(turned, f"{gemm}.rotation", {"hadamard": {"size": 16}})
    assert share(turned, "rotation", hardware=VECTOR_ONLY) == pytest.approx(9.1, abs=0.05)
    assert share(turned, "rotation") == pytest.approx(1.9, abs=0.05)


def test_small_models_pay_four_to_six_times_as_much() -> None:
    """The same section: M = 16384, K = N = 1024 costs base 35 %, stochastic G 24 %, all rotations 42 %."""
    small = parse_shape("16384,1024,1024")
    recipe = override(PLAIN, "G.rounding", "stochastic")
    for gemm in ("fprop", "dgrad", "wgrad"):
        recipe = override(recipe, f"{gemm}.rotation", {"hadamard": {"size": 16}})
    rows = breakdown(recipe, small, VECTOR_ONLY)
    sums = {name: sum(r.percent for r in rows if r.technique == name) for name in {r.technique for r in rows}}
    assert sums["e2m1 in blocks"] + sums["statistic"] == pytest.approx(35, abs=1)
    assert sums["element rounding"] == pytest.approx(24, abs=1)
    assert sums["rotation"] == pytest.approx(42, abs=1)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_rows_add_up(name: str) -> None:
    recipe = RECIPES[name]
    for hardware in HARDWARE.values():
        assert overhead(recipe, [LAYER], hardware) == pytest.approx(
            sum(row.percent for row in breakdown(recipe, LAYER, hardware))
        )
    work = [layer.flop * layer.count for layer in LLAMA3_8B]
    parts = [overhead(recipe, [layer]) for layer in LLAMA3_8B]
    weighted = sum(w * p for w, p in zip(work, parts, strict=True)) / sum(work)
    assert overhead(recipe) == pytest.approx(weighted)
    assert overhead(recipe, [*LLAMA3_8B, *LLAMA3_8B]) == pytest.approx(overhead(recipe))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_four_numbers_agree(name: str) -> None:
    recipe = RECIPES[name]
    assert excess(recipe) == pytest.approx(400 * relative_time(recipe) - 100)
    assert excess(recipe) >= overhead(recipe) - 1e-9
    assert read_time(recipe) >= 0
    assert (read_time(recipe) > 0) == any(row.read_bytes for row in breakdown(recipe, LAYER))


def test_where_the_gallery_stands() -> None:
    time = {name: relative_time(recipe) for name, recipe in RECIPES.items()}
    assert (overhead(RECIPES["bf16"]), overhead(RECIPES["fp32"])) == (0, 0)
    assert (time["bf16"], time["fp32"]) == (1, 2)  # FP32 at the TF32 rate
    assert 0.5 < time["mxfp8"] < 0.56
    assert all(0.25 < time[n] < 0.32 for n in time if n not in ("bf16", "fp32", "mxfp8"))
    assert time["mxfp4"] < time["nvfp4_plain"] < time["ue5m3"] < time["nvfp4"]
    assert overhead(RECIPES["mxfp8"]) == pytest.approx(overhead(RECIPES["mxfp4"]))
    assert excess(RECIPES["mxfp8"]) == pytest.approx(100 + overhead(RECIPES["mxfp8"]))


def test_a_point_in_high_precision_saves_operations_but_not_time() -> None:
    """Why ``overhead`` alone must not be the axis of a plot: leaving an operand in BF16 lowers it."""
    mixed = override(RECIPES["mxfp4"], "wgrad.rhs", "bf16")
    assert overhead(mixed) < overhead(RECIPES["mxfp4"])
    assert relative_time(mixed) > relative_time(RECIPES["mxfp4"]) + 0.2
    eight = override(RECIPES["mxfp4"], "G.element", "e5m2")  # two GEMMs of three at the FP8 rate
    assert relative_time(eight) == pytest.approx(relative_time(RECIPES["mxfp4"]) + 2 / 3 * 0.25)


additions = st.sampled_from(
    [
        ("G.rounding", "stochastic"),
        ("X.rounding", "stochastic"),
        ("*.scale_rounding", "stochastic"),
        ("*.tensor_scale", "current"),
        ("wgrad.rotation", "hadamard"),
        ("backward.rotation", {"hadamard": {"size": 64}}),
        ("forward.rotation", "hadamard"),
        ("*.element", "e4m3"),
    ]
)


@settings(max_examples=40)
@given(st.lists(additions, max_size=5), additions, st.sampled_from(sorted(MODELS)))
def test_another_technique_never_makes_a_recipe_cheaper(
    before: list[tuple[str, object]], last: tuple[str, object], model: str
) -> None:
    recipe = RECIPES["mxfp4"]
    for path, data in before:
        recipe = override(recipe, path, data)
    more = override(recipe, *last)
    replaces = last[0].endswith("rotation")  # another size in place of an existing rotation may well be cheaper
    if not (replaces and any(path.endswith("rotation") for path, _ in before)):
        assert overhead(more, MODELS[model]) >= overhead(recipe, MODELS[model]) - 1e-9
        assert relative_time(more, MODELS[model]) >= relative_time(recipe, MODELS[model]) - 1e-9


@pytest.mark.parametrize("size", [16, 64, 128, 1024])
def test_a_rotation_takes_the_faster_of_its_two_forms(size: int) -> None:
    recipe = override(PLAIN, "wgrad.rotation", {"hadamard": {"size": size}})
    for row in breakdown(recipe, LAYER):
        if row.technique == "rotation":
            assert (row.matrix > 0) == (size < 128)  # 2 * size / 2.5 PF against (1 + log2 size) / 80 TF
            assert (row.vector > 0) == (size >= 128)
    assert overhead(recipe) <= overhead(recipe, hardware=VECTOR_ONLY)


def test_larger_layers_and_slower_matrix_units_pay_less() -> None:
    for recipe in RECIPES.values():
        assert overhead(recipe, MODELS["llama3-70b"]) <= overhead(recipe)
        assert overhead(recipe, hardware=replace(B200, fp4=5e15)) == pytest.approx(overhead(recipe) / 2)
    small, large = (overhead(override(PLAIN, "*.block", b)) for b in (64, 16))
    assert small < large
