"""Faults that are injected into a training's arithmetic raise an alarm that names layer and GEMM; healthy ones none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from dse.alarms import gemm_numbers
from dse.alarms.verdicts import Alarm, alarms
from dse.numerics.block import BlockQuantizer
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.recipe import Recipe
from dse.pack import layer as packed_layer
from dse.pack.segments import Held, Reference, Segment
from dse.recipes import RECIPES
from dse.results.record import Record
from dse.tasks import TASKS
from dse.train.loop import TrainContext, run_pack
from dse.train.options import RunOptions
from dse.train.pack_run import PackRun
from dse.trial import Trial
from tests.records import trained

TASK = TASKS["regression"]()
SHORT = replace(TASK.training(), steps=9, batch=64)


def records(*names: str, first_seed: int = 0, **options: bool) -> list[Record]:
    trials = [Trial(TASK, SHORT, RECIPES[name], seed) for seed, name in enumerate(names, first_seed)]
    return run_pack(trials, TrainContext(RunOptions(**options)))


def raised(*names: str, first_seed: int = 0) -> dict[str, list[Alarm]]:
    return {r.recipe: alarms(r.gemm_checks) for r in records(*names, first_seed=first_seed)}


def lines(found: dict[str, list[Alarm]]) -> list[str]:
    return [f"{name} {alarm.line()}" for name, own in found.items() for alarm in own]


@dataclass(frozen=True)
class Attenuated(Reference):
    """The weight gradient loses 12 %."""

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        dx, dw = super().backward(held, g, context, needs)
        return dx, None if dw is None else 0.88 * dw


@dataclass(frozen=True)
class Silent(Reference):
    """Gradients are zero."""

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        dx, dw = super().backward(held, g, context, needs)
        return dx, None if dw is None else 0 * dw


@dataclass(frozen=True)
class Seeded(Reference):
    """Random bits of a backward pass are those of step 0."""

    def backward(
        self, held: Held, g: Tensor, context: LinearContext, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        first = replace(context.key, clock=context.key.clock * torch.tensor([1, 0]))
        return super().backward(held, g, context._replace(key=first), needs)


@dataclass(frozen=True)
class SwappedScales(BlockQuantizer):
    """Every block is decoded with its neighbor's scale."""

    def __call__(self, x: Tensor, key: Key | None = None) -> Quantized:
        trace = self.trace(x, key)
        decode = trace.matrix(trace.factors.decode.expand_as(trace.elements))
        return Quantized(trace.matrix(trace.elements) * decode.roll(self.block, -1), trace.quantized.alpha)


def swapped(recipe: Recipe) -> Recipe:
    if not isinstance(recipe.fprop.rhs, BlockQuantizer):  # an exempt layer's
        return recipe
    own = {f: getattr(recipe.fprop.rhs, f) for f in BlockQuantizer.__dataclass_fields__}
    return replace(recipe, fprop=replace(recipe.fprop, rhs=SwappedScales(**own)))


def inject(monkeypatch: pytest.MonkeyPatch, make: Callable[[Segment, Recipe], Segment]) -> None:
    """Replaces the programs of all quantized layers."""
    real = packed_layer.partition

    def partition(recipes: list[Recipe], *rest: object) -> tuple[Segment, ...]:
        return tuple(make(s, recipes[s.start]) for s in real(recipes, *rest))

    monkeypatch.setattr(packed_layer, "partition", partition)


@pytest.mark.parametrize("seed", [0, 3])
def test_healthy_trainings_raise_none(seed: int) -> None:
    """Those with the widest spread of random bits among them; the whole gallery is a slow test."""
    names = ("bf16", "nvfp4", "mxfp4", "quartet2_sr", "wang_fp4", "quartet", "tetrajet_q_ema", "fp32")
    assert lines(raised(*names, first_seed=seed)) == []


@pytest.mark.slow
def test_the_whole_gallery_raises_none() -> None:
    assert lines(raised(*RECIPES)) == []


def test_the_spread_of_a_gain_is_that_of_many_draws() -> None:
    """Few rows carry the product, and errors of a block go together: its elements alone would say less than half."""
    seed = 11
    print("seed", seed)
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    left, right = normal(1, 24, 64), normal(1, 16, 64)
    left[:, 2:] *= 0.05
    exact = left @ right.mT
    signs = normal(400, 24, 2, 1).sign().expand(-1, -1, -1, 32).flatten(2)
    errors = 0.1 * left * signs
    gains = gemm_numbers.along((left + errors) @ right.mT, exact.expand(400, -1, -1))
    none = torch.zeros_like(right)
    spread = gemm_numbers.gain_spread((errors[:1], none), (left, right), exact).item()
    assert spread == pytest.approx(float(gains.std()), rel=0.12)
    product = (left + errors[:1]) @ right.mT
    alone = gemm_numbers.error(product, exact) / gemm_numbers.effective(exact).sqrt()
    assert alone.item() < spread / 2


def test_a_gain_that_few_blocks_explain_raises_none() -> None:
    """The check of mxfp4_rht_sr on images in the quickstart, seed 0."""
    values = {"gain": 0.9615, "error": 0.1271, "expected_gain": 1.0101, "expected_error": 0.1168, "elements": 1749.22}
    row = [50, "1.layers.0", "wgrad", {**values, "repeats": 0.0, "spread": [0.0129]}]
    assert alarms([row]) == []
    row[3] = {**values, "repeats": 0.0, "spread": [0.001]}
    assert [alarm.kind for alarm in alarms([row])] == ["gain"]
    row[3] = {**values, "repeats": 0.0}
    assert [alarm.kind for alarm in alarms([row])] == ["gain"], "an older record"


def test_an_attenuated_gradient_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, lambda s, recipe: Attenuated(s.start, s.stop, recipe))
    (alarm,) = raised("nvfp4")["nvfp4"]
    assert (alarm.kind, alarm.gemm) == ("gain", "wgrad")
    assert "gain 0.8" in alarm.line()
    assert alarm.layer in alarm.line()


def test_swapped_scales_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, lambda s, recipe: Reference(s.start, s.stop, swapped(recipe)))
    assert ("error", "fprop") in {(a.kind, a.gemm) for a in raised("nvfp4_plain")["nvfp4_plain"]}


def test_zero_gradients_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, lambda s, recipe: Silent(s.start, s.stop, recipe))
    assert {(a.kind, a.gemm) for a in raised("nvfp4")["nvfp4"]} == {("no gradient", "wgrad")}


def test_an_unquantized_layer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, lambda s, recipe: Reference(s.start, s.stop, RECIPES["fp32"]))
    found = {(a.kind, a.gemm) for a in raised("nvfp4")["nvfp4"]}
    assert {("unquantized", "fprop"), ("unquantized", "wgrad")} <= found


def test_random_numbers_that_ignore_the_step_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, lambda s, recipe: Seeded(s.start, s.stop, recipe))
    found = raised("mxfp4_rht_sr", "nvfp4_plain")
    assert {("repeats", "dgrad"), ("repeats", "wgrad")} & {(a.kind, a.gemm) for a in found["mxfp4_rht_sr"]}
    assert found["nvfp4_plain"] == []


def test_a_clock_that_stands_still_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackRun, "step", still)
    found = raised("mxfp4_rht_sr", "nvfp4_plain")
    assert ("repeats", "wgrad") in {(a.kind, a.gemm) for a in found["mxfp4_rht_sr"]}
    assert found["nvfp4_plain"] == []


_step = PackRun.step


def still(run: PackRun) -> bool:
    going = _step(run)
    run.train_step.pack.clock[:, 1] = 0
    return going


def test_a_lossy_recipe_is_told() -> None:
    """Without a tensor scale, gradients of 1e-6 vanish in E4M3 scales: the recipe itself explains nothing away."""
    row = [
        3,
        "head",
        "dgrad",
        {"gain": 0.4, "error": 0.7, "expected_gain": 0.4, "expected_error": 0.7, "elements": 1e3},
    ]
    assert [a.kind for a in alarms([row])] == ["lost"]
    assert not alarms([[*row[:3], row[3] | {"vjp": 1}]])


def test_zeros_are_held_against_the_baseline() -> None:
    row, base = [5, "a", "wgrad", {"zeros": 0.3}], [5, "a", "wgrad", {"zeros": 0.02}]
    assert [a.kind for a in alarms([row], [base])] == ["zeros"]
    assert not alarms([row], [[*base[:3], {"zeros": 0.2}]])
    assert not alarms([row])


def test_checks_change_nothing_and_are_the_same_in_a_pack() -> None:
    names = ("nvfp4", "quartet", "tetrajet_q_ema", "ue5m3")
    together, without = records(*names), records(*names, gemm_checks=False)
    for a, b in zip(together, without, strict=True):
        assert a.gemm_checks
        assert trained(replace(a, gemm_checks=[])) == trained(b)
    alone = run_pack([Trial(TASK, SHORT, RECIPES["quartet"], 1)])[0]
    assert alone.gemm_checks == together[1].gemm_checks
