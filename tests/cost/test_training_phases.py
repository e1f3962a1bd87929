"""Costs of recipes with a schedule, by hand: the mean over the steps, each with the numerics that it has."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import pytest

from dse.cli import main
from dse.cost import B200, LLAMA3_8B, attention, breakdown, excess, overhead, parse_shape, read_time, relative_time
from dse.cost.models import deployed
from dse.cost.overhead import by_technique
from dse.cost.roofline import AS_MEASURED, OPTIMISTIC, machine, step_interval, step_time
from dse.cost.roofline.memory import extra_memory
from dse.cost.training_phases import stated, training_phases, unstated
from dse.numerics.ops import FREE, Ops
from dse.numerics.recipe import Recipe, override
from dse.numerics.techniques.schedules import SCHEDULES, ForwardOnly, LastStage, NoiseSwitch, Schedule, Switch
from dse.numerics.techniques.schedules.base import FORWARD, FULL, OFF, SWITCHED, Watch
from dse.recipes import RECIPES
from dse.recipes.bf16 import BF16

LAYER = parse_shape("8192,4096,14336")
X, W, G = (LAYER.size(tensor) for tensor in "XWG")
MXFP4 = RECIPES["mxfp4"]
HEALING = RECIPES["mlperf_mxfp4_healing"]
EACH = 4 + 2 / 32  # operations per element of an operand in MXFP4: cast and maximum, and two for each block


def under(schedule: Schedule, recipe: Recipe = MXFP4) -> Recipe:
    return replace(recipe, schedule=schedule)


def seconds(operations: float, *rates: float) -> float:
    """Three GEMMs of the layer at their rates, and vector operations."""
    return sum(LAYER.flop / rate for rate in rates) + operations / B200.vector


FULL_SECONDS = seconds(2 * (X + W + G) * EACH, *3 * [B200.fp4])
BF16_SECONDS = seconds(0, *3 * [B200.bf16])
FORWARD_SECONDS = seconds((X + W) * EACH, B200.fp4, B200.bf16, B200.bf16)
FP8_SECONDS = seconds(4 * (X + W + G) + 3 * 2, *3 * [B200.fp8])  # one scale per tensor: codes serve both GEMMs
BY_HAND = {
    "last_stage": (LastStage(0.18), ((FULL, 0.82), (OFF, 0.18)), 0.82 * FULL_SECONDS + 0.18 * BF16_SECONDS),
    "forward_only": (
        ForwardOnly(0.25),
        ((FULL, 0.75), (FORWARD, 0.25)),
        0.75 * FULL_SECONDS + 0.25 * FORWARD_SECONDS,
    ),
    "switch": (
        HEALING.schedule,
        ((FULL, 340 / 550), (SWITCHED, 210 / 550)),
        (340 * FULL_SECONDS + 210 * FP8_SECONDS) / 550,
    ),
    "noise_switch": (NoiseSwitch(), ((FULL, 1.0),), FULL_SECONDS + 6 * G / B200.vector),
}


def test_every_schedule_is_counted_here() -> None:
    assert set(BY_HAND) == set(SCHEDULES)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_time_by_hand(name: str) -> None:
    schedule, shares, expected = BY_HAND[name]
    assert schedule is not None
    recipe = under(schedule)
    assert relative_time(recipe, [LAYER]) == pytest.approx(expected / BF16_SECONDS)
    assert excess(recipe, [LAYER]) == pytest.approx(400 * expected / BF16_SECONDS - 100)
    assert [phase for phase, _ in schedule.shares()] == [phase for phase, _ in shares]
    assert [share for _, share in schedule.shares()] == pytest.approx([share for _, share in shares])
    steps = Counter(schedule.phase(step, 5500, None, FULL) for step in range(5500))  # what a training does
    assert {phase: count / 5500 for phase, count in steps.items()} == pytest.approx(dict(shares))


def test_operations_are_means_over_the_steps() -> None:
    """Operations alone: nothing in BF16 steps, half of the operands where only the forward GEMM quantizes."""
    one = 100 / B200.vector * B200.fp4 / (3 * LAYER.flop)
    whole = 2 * (X + W + G) * EACH
    assert overhead(under(LastStage(0.18)), [LAYER]) == pytest.approx(0.82 * whole * one)
    assert overhead(under(ForwardOnly(0.25)), [LAYER]) == pytest.approx((0.75 * whole + 0.25 * (X + W) * EACH) * one)
    assert overhead(under(LastStage(1.0)), [LAYER]) == 0
    assert relative_time(under(LastStage(1.0)), [LAYER]) == pytest.approx(1)
    assert read_time(HEALING, [LAYER]) == pytest.approx(
        210 / 550 * 100 * 2 * (X + W + G) / B200.bandwidth * B200.fp4 / (3 * LAYER.flop)  # FP8's maxima alone
    )


def test_healing_is_not_as_cheap_as_the_recipe_that_it_heals() -> None:
    """A step of Llama 3 8B on a B200: 340 of 550 steps in MXFP4, 210 in FP8, at both ends of the interval."""
    assert isinstance(HEALING.schedule, Switch)
    to = HEALING.schedule.to
    fp8 = replace(MXFP4, fprop=to.fprop, dgrad=to.dgrad, wgrad=to.wgrad)
    model, hardware = deployed("llama3-8b"), machine("b200")
    for how in (OPTIMISTIC, AS_MEASURED):
        first, last = (step_time(own, model, hardware, how) for own in (MXFP4, fp8))
        own = step_time(HEALING, model, hardware, how)
        assert own.seconds == pytest.approx((340 * first.seconds + 210 * last.seconds) / 550)
        assert first.seconds < own.seconds < last.seconds
        assert own.parts["attention"] == pytest.approx(first.parts["attention"])
    low, high = step_interval(HEALING, model, hardware).relative
    plain = step_interval(MXFP4, model, hardware).relative
    assert (low, high) > (1.05 * plain[0], 1.05 * plain[1])
    page = " ".join((Path(__file__).parents[2] / "docs" / "cost-model.md").read_text(encoding="utf-8").split())
    assert f"make {low:.3f} to {high:.3f}; operations {overhead(HEALING):.1f} %".replace(" 0.", " .") in page


def test_memory_is_that_of_the_phase_that_takes_most() -> None:
    """A GPU that trains in BF16 at last has to hold what BF16 saves; one that heals in FP8, FP8's codes."""
    model = deployed("llama3-8b")
    assert extra_memory(under(LastStage(0.01)), model) == extra_memory(BF16, model) == (0.0, 0.0)
    saved = 8192 * 32 * (4096 + 4096 + 4096 + 14336)  # elements of X: q, k and v share one, gate and up another
    assert extra_memory(HEALING, model).activations == pytest.approx(saved * (1 - 2))
    assert extra_memory(MXFP4, model).activations == pytest.approx(saved * (0.5 + 1 / 32 - 2))


def test_rules_and_attention_change_with_their_own_schedules() -> None:
    """Attention's projections end in BF16 at half of the training, the others' last tenth is only forward."""
    recipe = override(under(ForwardOnly(0.1)), "layers.attention", under(LastStage(0.5)))
    found = training_phases(recipe)
    assert [one.share for one in found] == pytest.approx([0.5, 0.4, 0.1])
    (rule,) = recipe.layers
    own = [one.recipe.under(one.recipe.layers[0]) for one in found]
    base = [one.recipe.under(None) for one in found]
    assert all(one is not None for one in (*own, *base, rule.recipe))
    assert [numerics.quantizes for numerics in own if numerics] == [True, False, False]
    assert [numerics.dgrad == BF16.dgrad for numerics in base if numerics] == [False, False, True]
    linears = [shape for shape in LLAMA3_8B if shape.name.startswith("attention")]
    assert relative_time(recipe, linears) == pytest.approx((relative_time(MXFP4, linears) + 1) / 2)
    attended = override(under(LastStage(0.25)), "attention", "same")
    whole = override(MXFP4, "attention", "same")
    assert relative_time(attended) == pytest.approx(0.75 * relative_time(whole) + 0.25)
    assert [bool(attention(one.recipe, LLAMA3_8B)) for one in training_phases(attended)] == [True, False]


def test_what_no_recipe_states_is_told() -> None:
    assert "counted as if it never did" in unstated(under(NoiseSwitch()))[0]
    late = under(replace(HEALING.schedule, step=340, share=0.1))  # type: ignore[type-var]
    assert "from step 340 on" in unstated(late)[0]
    assert relative_time(late) == relative_time(MXFP4)
    assert unstated(HEALING) == unstated(MXFP4) == ()
    assert len(training_phases(override(MXFP4, "post", "rtn"))) == 1


@dataclass(frozen=True)
class _Alternate(Schedule):
    """A schedule that states no shares."""

    def phase(self, step: int, steps: int, watch: Watch | None, before: str) -> str:
        return FORWARD if step >= 0.9 * steps else OFF if step >= 0.6 * steps else FULL

    def ops(self) -> Ops:
        return FREE


def test_a_schedule_that_states_no_shares_is_looked_at_step_by_step() -> None:
    expected = (0.6 * FULL_SECONDS + 0.3 * BF16_SECONDS + 0.1 * FORWARD_SECONDS) / BF16_SECONDS
    assert relative_time(under(_Alternate()), [LAYER]) == pytest.approx(expected)


def test_a_switch_at_a_step_is_a_share_of_the_steps_of_its_training() -> None:
    at, share = replace(MXFP4, schedule=Switch(step=25)), replace(MXFP4, schedule=Switch(share=0.75))
    assert stated(at, 100) == share
    assert unstated(at)
    assert not unstated(stated(at, 100))
    assert relative_time(stated(at, 100)) > relative_time(at)
    assert stated(at, 25) == MXFP4
    assert stated(share, 100) is share
    ruled = override(MXFP4, "layers", [{"first": 1, "recipe": "none"}])
    ruled = replace(ruled, layers=(replace(ruled.layers[0], recipe=at),))
    assert stated(ruled, 100).layers[0].recipe == share


def test_techniques_sum_to_the_overhead() -> None:
    """With phases, rules, attention's products, and after training."""
    after = override(RECIPES["nvfp4_plain"], "post", {"autoquantize": {"bits": 8}})
    for recipe in (HEALING, RECIPES["nvfp4_last15"], override(MXFP4, "attention", "same"), after):
        assert sum(by_technique(recipe).values()) == pytest.approx(overhead(recipe))
    assert by_technique(HEALING)["statistic"] < by_technique(MXFP4)["statistic"]


def test_the_command_shows_every_phase(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        with patch.object(sys, "argv", ["dse", "cost", *arguments]), pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    told = said("mlperf_mxfp4_healing", "--shape", "8192,4096,14336")
    assert told.index("from 0 to 61.8 % of the steps") < told.index("from 61.8 to 100 % of the steps")
    assert (told.count("layer: M = 8,192"), told.count("e4m3 in blocks")) == (2, 4)
    assert f"take {relative_time(HEALING, [LAYER]):.2f} of the BF16 time" in told
    assert "both are means over the 2 phases" in told
    assert "the mean over 2 phases" in said("mlperf_mxfp4_healing", "--model", "llama3-1b")
    told = said("mlperf_mxfp4_healing", "--hardware", "b200", "--shape", "8192,4096,14336")
    assert "mlperf_mxfp4_healing, from 61.8 to 100 % of the steps" in told
    assert "counted as if it never did" in said("fp4_all_the_way_qaf", "--shape", "64,64,64")
    assert breakdown(HEALING, LAYER) == breakdown(MXFP4, LAYER)
