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
    attention,
    breakdown,
    excess,
    overhead,
    parse_shape,
    read_time,
    relative_time,
)
from dse.cost.overhead import operand_bits
from dse.cost.training_phases import training_phases
from dse.numerics.recipe import POINTS, Recipe, override
from dse.numerics.stored_bits import stored_bits
from dse.recipes import RECIPES
from dse.sweep.language.numerics import apply_settings

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


BACKWARD = ("element slope", "scale gradient", "scale slope", "tensor scale gradient")


@pytest.mark.parametrize(
    ("settings", "technique", "percent"),
    [
        ({"*.slope": "dge"}, "element slope", 4.8),
        ({"*.slope": "sigmoid"}, "element slope", 5.2),
        ({"*.slope": "spline"}, "element slope", 3.2),
        ({"*.scale_gradient": "full"}, "scale gradient", 2.1),
        ({"*.scale_gradient": "diagonal"}, "scale gradient", 2.1),
        ({"*.scale_gradient": "full", "*.statistic": "hard_soft"}, "scale gradient", 4.9),
        ({"*.scale_gradient": "full", "*.statistic": "soft_soft"}, "scale gradient", 4.9),
        ({"*.scale_gradient": "full", "*.scale_slope": "dge"}, "scale slope", 4.8 / 16),
        ({"*.tensor_scale": {"current": {"through": "exact"}}}, "tensor scale gradient", 1.2),
    ],
    ids=str,
)
def test_the_worked_example_backward(settings: dict[str, object], technique: str, percent: float) -> None:
    """Derivatives are those of X's and W's forward quantizers, once each, whatever the other four points are set to."""
    recipe = apply_settings(PLAIN, list(settings.items()))
    assert share(recipe, technique) == pytest.approx(percent, abs=0.05)
    rows = breakdown(recipe, LAYER)
    assert [(row.gemm, row.operand) for row in rows if row.technique == technique] == [("fprop", "X"), ("fprop", "W")]
    forward = [row for row in rows if row.technique not in BACKWARD]
    if settings.get("*.statistic") == "soft_soft":  # a log-sum-exp forward, 6 more per element
        assert share(recipe, "statistic") == pytest.approx(4 * share(PLAIN, "statistic"))
    else:
        assert forward == breakdown(PLAIN, LAYER)


def test_a_constant_scale_has_no_derivative_to_pay_for() -> None:
    """q' and the statistic's gradient cost nothing while the scale's gradient is constant."""
    idle = override(override(PLAIN, "*.scale_slope", "dge"), "*.statistic", "hard_soft")  # a sweep refuses it
    assert overhead(idle) == overhead(PLAIN)


def test_random_bits_are_counted_where_they_are_drawn() -> None:
    elements = override(PLAIN, "X.rounding", "stochastic")
    both = override(elements, "X.scale_rounding", {"stochastic": {"bits": 12}})
    n = LAYER.size("X")
    assert sum(row.random_bits for row in breakdown(elements, LAYER)) == 2 * 8 * n
    rows = [row for row in breakdown(both, LAYER) if row.technique == "scale rounding"]
    assert [row.random_bits for row in rows] == [12 * n / 16] * 2  # 12 for each scale, not for each element
    assert [row.vector for row in rows] == [6 * n / 16] * 2
    assert [row.formula for row in rows] == ["6 MK/16"] * 2


def test_the_encode_convention_divides_once_more_per_block() -> None:
    recipe = override(PLAIN, "*.convention", "encode")
    extra = [row for row in breakdown(recipe, LAYER) if row not in breakdown(PLAIN, LAYER)]
    assert {row.technique for row in extra} == {"convention"}
    assert sum(row.vector for row in extra) == 2 * sum(LAYER.size(t) for t in "XWG") / 16


@pytest.mark.parametrize(
    ("block", "tile", "counts", "symbols"),
    [
        (
            16,
            1,
            (64 * 8, 96 * 8, 64 * 6, 128 * 6, 96 * 4, 128 * 4),
            ("MK/16", "NK/16", "MN/16", "NK/16", "MN/16", "MK/16"),
        ),
        (0, 1, (64, 96, 64, 128, 96, 128), ("M", "N", "M", "K", "N", "K")),
        (0, 8, (8, 12, 8, 16, 12, 16), ("M/8", "N/8", "M/8", "K/8", "N/8", "K/8")),
        (1, 0, (128, 128, 96, 96, 64, 64), ("K", "K", "N", "N", "M", "M")),
        (16, 0, (8, 8, 6, 6, 4, 4), ("K/16", "K/16", "N/16", "N/16", "M/16", "M/16")),
        (0, 0, (1,) * 6, ("",) * 6),
        (4096, 1, (64, 96, 64, 128, 96, 128), ("M", "N", "M", "K", "N", "K")),  # longer than the axis
        (100, 1, (128, 192, 64, 128, 96, 128), ("MK/100", "NK/100", "M", "K", "N", "K")),  # the last one is cut short
    ],
)
def test_blocks_are_counted_on_the_operands_own_extents(
    block: int, tile: int, counts: tuple[int, ...], symbols: tuple[str, ...]
) -> None:
    """Operands [M, K], [N, K], [M, N], [K, N], [N, M], [K, M]; 0 is the whole axis: a scale per row or tensor."""
    recipe = apply_settings(RECIPES["mxfp4"], [("*.block", block), ("*.tile", tile), ("*.rounding", "stochastic")])
    rows = [row for row in breakdown(recipe, parse_shape("64,128,96")) if row.technique == "e2m1 in blocks"]
    sizes = [64 * 128, 96 * 128, 64 * 96, 96 * 128, 64 * 96, 64 * 128]
    assert [row.vector for row in rows] == [2 * n + 2 * count for n, count in zip(sizes, counts, strict=True)]
    assert [row.formula.split(" + ")[1] for row in rows] == [f"2 {symbol}".rstrip() for symbol in symbols]


def test_one_scale_per_tensor_reads_the_tensor_first() -> None:
    whole = apply_settings(RECIPES["mxfp4"], [("*.block", 0), ("*.tile", 0)])
    rows = breakdown(whole, LAYER)
    assert sum(row.syncs for row in rows) == 3
    assert sum(row.read_bytes for row in rows) == 2 * sum(LAYER.size(t) for t in "XWG")
    assert overhead(whole) < overhead(override(whole, "*.block", 32))
    random = override(whole, "*.rounding", "stochastic")  # codes of their own at each point, the amax shared
    assert sum(row.syncs for row in breakdown(random, LAYER)) == 3
    two_level = override(random, "*.tensor_scale", "current")
    assert sum(row.syncs for row in breakdown(two_level, LAYER)) == 3


def test_element_and_matrix_operations_are_alternatives() -> None:
    row = breakdown(override(PLAIN, "wgrad.rotation", {"hadamard": {"size": 16}}), LAYER)
    for turned in (r for r in row if r.technique == "rotation"):
        assert (turned.vector == 0) != (turned.matrix == 0)


def test_gradients_are_rotated_back_where_they_pass_the_forward_rotation() -> None:
    """Forward copies give dX and dW in the rotated space: one way back. A derivative there: one way in as well."""
    turned = override(PLAIN, "fprop.rotation", {"hadamard": {"size": 16}})
    once = share(turned, "rotation")
    assert share(turned, "rotation of gradient") == 0
    forward = override(turned, "backward_source", "forward")
    assert share(forward, "rotation of gradient") == pytest.approx(once)
    inside = override(turned, "*.slope", "dge")
    assert share(inside, "rotation of gradient") == pytest.approx(2 * once)
    assert share(override(inside, "backward_source", "forward"), "rotation of gradient") == pytest.approx(once)
    assert share(override(PLAIN, "backward_source", "forward"), "rotation of gradient") == 0


def test_weight_rules_and_schedules_are_counted_once() -> None:
    ruled = override(PLAIN, "weights", "q_ema")
    assert [(r.gemm, r.operand, r.vector) for r in breakdown(ruled, LAYER) if r.technique == "weight rule"] == [
        ("fprop", "W", 8 * LAYER.size("W"))
    ]
    watched = override(PLAIN, "schedule", "noise_switch")
    assert [(r.gemm, r.operand) for r in breakdown(watched, LAYER) if r.technique == "schedule"] == [("dgrad", "G")]
    assert breakdown(override(PLAIN, "schedule", "last_stage"), LAYER) == breakdown(PLAIN, LAYER)


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
            sum(
                one.share * row.percent
                for one in training_phases(recipe)
                for row in breakdown(one.recipe, LAYER, hardware)
            )
        )
    work = [layer.flop * layer.count for layer in LLAMA3_8B]
    parts = [overhead(recipe, [layer]) for layer in LLAMA3_8B]
    weighted = sum(w * p for w, p in zip(work, parts, strict=True)) / sum(work)
    linears = replace(recipe, attention=None)
    assert overhead(linears) == pytest.approx(weighted)
    assert overhead(linears, [*LLAMA3_8B, *LLAMA3_8B]) == pytest.approx(overhead(linears))
    more = [x.flop * x.count * row.percent for own, x in attention(recipe, LLAMA3_8B) for row in breakdown(own, x)]
    assert overhead(recipe) == pytest.approx(weighted + sum(more) / sum(work))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_four_numbers_agree(name: str) -> None:
    recipe = RECIPES[name]
    assert excess(recipe) == pytest.approx(400 * relative_time(recipe) - 100)
    assert recipe.attention or excess(recipe) >= overhead(recipe) - 1e-9  # less, where attention gains on BF16
    assert read_time(recipe) >= 0
    phases = [one.recipe for one in training_phases(recipe)]
    owners = [own for one in phases for own in (*one.numerics, *(core for core, _ in attention(one, LLAMA3_8B)))]
    assert (read_time(recipe) > 0) == any(row.read_bytes for own in owners for row in breakdown(own, LAYER))


def test_where_the_gallery_stands() -> None:
    time = {name: relative_time(recipe) for name, recipe in RECIPES.items()}
    assert (overhead(RECIPES["bf16"]), overhead(RECIPES["fp32"])) == (0, 0)
    assert (time["bf16"], time["fp32"]) == (1, 2)  # FP32 at the TF32 rate
    assert 0.5 < time["mxfp8"] < 0.56
    bits = {
        name: {operand_bits(recipe.quantizer(p)) for p in POINTS}
        for name, recipe in RECIPES.items()
        if not recipe.layers and len(training_phases(recipe)) == 1
    }
    assert 0.36 < time["mlperf_mxfp4_healing"] < 0.37  # 340 steps at .271, 210 at .508
    assert all(0.25 < time[n] < 0.35 for n in bits if bits[n] == {4})
    assert 0.75 < time["per_token_nvfp4"] < 0.77  # one GEMM of three in FP4
    others = [n for n in bits if bits[n] not in ({4}, {16}, {32}) and n != "per_token_nvfp4"]
    assert all(0.42 < time[n] < 0.56 for n in others)
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
        ("*.slope", "dge"),
        ("W.slope", {"straight_through": {"outside": "zero"}}),
        ("*.scale_gradient", "full"),
        ("X.scale_gradient", "diagonal"),
        ("*.scale_slope", "spline"),
        ("*.statistic", "soft_soft"),
        ("*.convention", "encode"),
        ("*.tensor_scale", {"current": {"through": "exact"}}),
        ("G.choice", "four_over_six"),
        ("X.outliers", "clamp"),
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
    option = last[0].rpartition(".")[2]  # another rotation in place of an existing one may well be cheaper
    if not any(path.rpartition(".")[2] == option and data != last[1] for path, data in before):
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


def test_attention_comes_on_top_of_the_linears() -> None:
    """By hand for Llama 3 8B: per head and layer, 8,192 queries that see 4,096 keys on average, 128 wide."""
    fp4, fp8 = (override(RECIPES[name], "attention", "same") for name in ("nvfp4_plain", "mxfp8"))
    heads, queries, keys, width = 32 * 32, 8192, 4096, 128
    flop = heads * 2 * queries * keys * width  # of one GEMM; there are six
    linears = sum(3 * layer.flop * layer.count for layer in LLAMA3_8B)
    for recipe, plain, rate in ((fp4, RECIPES["nvfp4_plain"], B200.fp4), (fp8, RECIPES["mxfp8"], B200.fp8)):
        saved = 6 * flop / rate - 6 * flop / B200.bf16
        more = (overhead(recipe) - overhead(plain)) / 100 * linears / B200.fp4
        assert more > 0
        expected = relative_time(plain) + (saved + more) / (linears / B200.bf16)
        assert relative_time(recipe) == pytest.approx(expected)
        assert excess(recipe) == pytest.approx(400 * relative_time(recipe) - 100)
        assert read_time(recipe) >= read_time(plain)
    only_scores = override(RECIPES["nvfp4_plain"], "attention.scores", "same")
    q, k, ds = queries * width, keys * width, queries * keys
    sizes = 2 * (q + k + ds)  # every tensor at two points
    blocks = sizes / 16
    rows = [row for product, layer in attention(only_scores, LLAMA3_8B) for row in breakdown(product, layer)]
    by_name = {name: sum(r.vector for r in rows if r.technique == name) for name in {r.technique for r in rows}}
    assert by_name["e2m1 in blocks"] == pytest.approx(2 * sizes + 2 * blocks)
    assert attention(RECIPES["nvfp4"], LLAMA3_8B) == []
    assert attention(fp4, [LAYER]) == []
    assert overhead(override(RECIPES["bf16"], "attention.*", "bf16")) == 0
    assert relative_time(override(RECIPES["bf16"], "attention.*", "bf16")) == pytest.approx(1)


def test_rules_are_counted_layer_by_layer() -> None:
    """Against shares of the GEMM operations that are counted by hand."""
    hidden, kv, ffn = 4096, 1024, 14336
    attended = 2 * hidden * (hidden + kv)
    share = attended / (attended + 3 * hidden * ffn)
    mixed = override(RECIPES["nvfp4_plain"], "layers.attention", RECIPES["bf16"])
    linears = [shape for shape in LLAMA3_8B if shape.name.startswith("ffn")]
    expected = share + (1 - share) * relative_time(RECIPES["nvfp4_plain"], linears)
    assert relative_time(mixed) == pytest.approx(expected)
    last = relative_time(RECIPES["nvfp4_last15"])
    assert last == pytest.approx((5 + 27 * relative_time(RECIPES["nvfp4"])) / 32)  # 5 of 32 blocks in BF16
    left = override(RECIPES["nvfp4"], "layers", [{"first_blocks": 32, "recipe": "none"}])
    assert relative_time(left) == pytest.approx(1)
    assert overhead(left) == 0
    assert relative_time(override(RECIPES["nvfp4"], "layers.attention", "same")) == pytest.approx(
        relative_time(RECIPES["nvfp4"])
    )
    half = override(RECIPES["nvfp4"], "layers", [{"kind": "core", "first_blocks": 16, "attention": "same"}])
    shapes = attention(half, LLAMA3_8B)
    assert [shape.count for _, shape in shapes] == [512, 512]


def test_after_training_activations_alone_cost_time() -> None:
    """One GEMM, W quantized once: X's cast, rotation and balance per element, by hand."""
    recipe = override(RECIPES["mxfp4"], "post", "gptq")
    layer = parse_shape("2048,1024,512")
    rows = breakdown(recipe, layer, B200)
    assert {(row.gemm, row.operand) for row in rows} == {("fprop", "X")}
    n = 2048 * 1024
    vector = 2 * n + 2 * n / 32 + 2 * n
    assert sum(row.vector for row in rows) == vector
    assert overhead(recipe, [layer], B200) == pytest.approx(100 * vector / B200.vector * B200.fp4 / layer.flop)
    balanced = override(recipe, "post.balance", "awq")
    assert sum(row.vector for row in breakdown(balanced, layer, B200)) == vector + n
    turned = override(recipe, "fprop.rotation", {"hadamard": {"size": 32, "signs": "none"}})
    assert overhead(turned, [layer], B200) > overhead(recipe, [layer], B200)
    assert relative_time(override(RECIPES["mxfp8"], "post", "rtn"), [layer]) < 1
    assert overhead(recipe, [layer], B200) < 3 * overhead(RECIPES["mxfp4"], [layer], B200)


def test_stored_bits() -> None:
    """Elements, and what blocks keep beside them."""
    level = 32 / (64 * 128)
    expected = {"mxfp4": 4.25, "mxfp8": 8.25, "mxint8": 8.25, "nvfp4_plain": 4.5 + level, "bf16": 16, "fp32": 32}
    for name, bits in expected.items():
        assert stored_bits(RECIPES[name].fprop.rhs, 64, 128) == bits
    assert stored_bits(RECIPES["nvfp4"].fprop.rhs, 64, 128) == 4 + 8 / 256 + 32 / (64 * 128)
    by_sign = override(RECIPES["mxfp4"], "W.outliers", "asymmetric").fprop.rhs
    assert stored_bits(by_sign, 64, 128) == 4.5
    assert stored_bits(RECIPES["hif4"].fprop.rhs, 64, 128) == 4 + (8 + 8 + 16) / 64
