"""Plans: what is done, what is left, and how long it will take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest

from dse.errors import UserError
from dse.numerics.recipe import override
from dse.plan import Probe, Timing, check_rules, estimate, make_plan, plan_text, probe_missing, probe_seconds
from dse.recipes import RECIPES
from dse.sweep import Sweep
from dse.trial import Trial

Load = Callable[[str], Sweep]
FILE = """
tasks: [regression, image]
recipes: [fp32, mxfp4, mxfp8]
seeds: 2
training: {steps: 30}
grid:
  '*.block': [8, 32]
exclude:
  - {recipe: mxfp8, '*.block': 8, task: image}
"""


@dataclass
class Past:
    """An earlier trial."""

    trial: dict[str, Any]
    seconds: float
    status: str = "ok"
    more: dict[str, Any] = field(default_factory=dict)


def test_counts(sweep: Load) -> None:
    found = sweep(FILE)
    done = {found.cells[0].uid: "ok", found.cells[-1].uid: "diverged", "0123456789abcdef": "ok"}
    plan = make_plan(found, done)
    assert (plan.count.total, plan.count.done, plan.count.todo) == (4 + 14, 2, 16)
    assert (plan.baselines.total, plan.baselines.done) == (4, 1)
    assert plan.done == {"ok": 1, "diverged": 1}
    assert [cell.uid for cell in plan.todo] == [cell.uid for cell in found.cells[1:-1]]
    assert {label: c.total for label, c in plan.by_axis["*.block"].items()} == {8: 6, 32: 8}
    assert {label: c.total for label, c in plan.by_axis["recipe"].items()} == {
        "bf16": 4,
        "fp32": 0,
        "mxfp4": 8,
        "mxfp8": 6,
    }
    assert list(plan.excluded.values()) == [8, 2]
    assert plan.unknown == 16
    assert plan.duration(2) == "no estimate: nothing like it has run yet"


def test_estimates_from_history(sweep: Load) -> None:
    cells = sweep(FILE).cells
    same = next(c for c in cells if c.config == "mxfp4 *.block=8" and c.labels["task"] == "image")
    past = [
        Past({**same.trial.spec, "seed": 77}, 3.0),
        Past({**same.trial.spec, "seed": 78}, 5.0),
        Past({**same.trial.spec, "seed": 79}, 99.0, status="failed"),
    ]
    timings = estimate(cells, past)
    assert timings[same.uid] == Timing(4.0, "measured")
    images = [cell for cell in cells if cell.labels["task"] == "image"]
    assert set(timings) == {cell.uid for cell in images}
    plan = make_plan(sweep(FILE), {}, timings)
    assert plan.seconds == 4.0 * len(images)
    assert plan.unknown == len(cells) - len(images)
    assert plan.duration(2) == (
        "about 16 s on 2 workers (2 by completed trials of the same recipe, "
        "6 by completed trials of the same task with other recipes, 10 not counted)"
    )


def test_probes_time_real_steps(sweep: Load) -> None:
    found = sweep("{tasks: [regression, image], recipes: [mxfp4], seeds: 2, training: {steps: 50, batch: 8}}")
    timings = probe_missing(found.cells, {found.cells[0].uid: Timing(1.0, "measured")}, budget=100)
    assert set(timings) == {cell.uid for cell in found.cells[1:]}
    assert all(timing.source == "probed" and 0 < timing.seconds < 100 for timing in timings.values())
    assert "estimated from a few steps" in make_plan(found, {}, timings).duration()


def test_a_probe_scales_with_the_training(sweep: Load) -> None:
    trial = sweep("{tasks: [regression], recipes: [bf16], seeds: 1, training: {steps: 10, batch: 8}}").cells[0].trial
    probe = probe_seconds(trial, steps=1)
    assert probe.seconds(trial.training) == pytest.approx(10 * probe.step + 2 * probe.evaluation)


def test_missing_data_are_said(sweep: Load) -> None:
    found = sweep("{tasks: [lm: {text: no-such-text}], recipes: [bf16], seeds: 1}")
    with pytest.raises(UserError):
        probe_missing(found.cells, {})


def test_what_cannot_be_timed_is_handed_on(sweep: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sweep("{tasks: [regression, image], recipes: [bf16], seeds: 1}")

    def probe(trial: Trial, *args: Any, **options: Any) -> Probe:
        if trial.task.name == "image":
            raise TypeError("a wrong call")
        return Probe(1.0, 1.0)

    monkeypatch.setattr(import_module("dse.plan.estimate"), "probe_seconds", probe)
    told: list[tuple[str, str]] = []
    timings = probe_missing(found.cells, {}, on_failure=lambda cell, e: told.append((cell.trial.task.name, str(e))))
    assert (len(timings), told) == (1, [("image", "a wrong call")])


def test_no_budget_no_probe(sweep: Load) -> None:
    assert probe_missing(sweep(FILE).cells, {}, budget=0) == {}


def test_text(sweep: Load) -> None:
    text = plan_text(make_plan(sweep(FILE), {}))
    assert "18 trials, 4 of them baselines: 0 done, 18 to run" in text
    assert "mxfp4" in text
    assert "10 cells left out" in text
    assert "excluded on line 9" not in text
    assert "excluded on line 8" in text


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ("{method: random, trials: 3}", "16 trials, 4 of them baselines: 0 done, 16 to run"),
        ("{method: random, trials: 3}", "search: random, 3 configurations on each of 2 tasks\n"),
        (
            "{method: tpe, trials: 30, batch: 8}",
            "30 configurations on each of 2 tasks, chosen in batches of 8 as results",
        ),
    ],
)
def test_text_of_a_search(sweep: Load, search: str, text: str) -> None:
    file = FILE.replace("seeds: 2", f"seeds: 2\nsearch: {search}").replace("[8, 32]", "{int: [8, 32]}")
    assert text in plan_text(make_plan(sweep(file[: file.index("exclude")]), {})) + "\n"


def test_ten_thousand_cells_are_quick(sweep: Load) -> None:
    """About 0.6 s of processor time on an idle core; the bound leaves room for a busy machine."""
    begin = time.process_time()
    found = sweep("""
        tasks: [regression, image, diffusion, lm]
        recipes: [mxfp4, nvfp4, ue5m3, mxfp8]
        seeds: 5
        grid:
          '*.block': [4, 8, 16, 32, 64, 128]
          G.rounding: [nearest_even, stochastic, toward_zero]
          wgrad.rotation: [none, {hadamard: {size: 16}}, {hadamard: {size: 32}}]
          dgrad.rotation: [none, hadamard]
    """)
    plan = make_plan(found, {})
    assert plan.count.total + plan.merged > 8000
    assert time.process_time() - begin < 5


def test_recipes_without_kernels_for_all(sweep: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    from dse import fused
    from dse.pack import backend, slowdown

    def left(use: fused.Use) -> str:
        return "" if use.quantizer.random_bits == 0 else "random bits"

    with monkeypatch.context() as patch:
        patch.setattr(fused, "uncovered", left)
        text = "tasks: regression\nrecipes: [nvfp4, nvfp4_plain]\nseeds: 2\n"
        assert [str(part) for part in backend.uncovered(RECIPES["nvfp4"])] == [
            "dgrad.lhs: random bits",
            "wgrad.lhs: random bits",
        ]
        plan = make_plan(sweep(text), {})
        assert list(plan.slow.values()) == [2]
        assert "of 2 trials" in plan_text(plan)
        assert slowdown.MEASURED in plan_text(plan), "a factor is worth what is known about its measurement"
        assert "not measured" in plan_text(plan)
        patch.setattr(slowdown, "FACTORS", {"dgrad.lhs": 1.5, "wgrad.lhs": 2.0})
        assert "nvfp4: dgrad.lhs: random bits; wgrad.lhs: random bits (about 2.5 times as long)" in plan_text(
            make_plan(sweep(text), {})
        )
    assert make_plan(sweep(text.replace("nvfp4, ", "bf16, ")), {}).slow == {}
    scaled = override(RECIPES["nvfp4"], "forward.scale_gradient", "full")
    found = slowdown.slowdown(scaled)
    assert found is not None
    assert found.factor == pytest.approx(21.9 + 1.7 - 1), "the reason has a factor, where the part alone has none"


def test_what_quantizes_nothing_is_named(sweep: Load) -> None:
    found = sweep("tasks: regression\nrecipes: [bf16, nvfp4, left: {base: nvfp4, exempt.last: 5}]\nseeds: 2\n")
    (note,) = check_rules(found.cells, found.path)
    assert note.startswith("task regression, left: nothing is quantized, all 3 layers are left out (")
    assert "among the last 5" in note
    assert check_rules([cell for cell in found.cells if cell.config != "left"], found.path) == ()


def test_a_switch_that_is_never_reached_is_named(sweep: Load) -> None:
    found = sweep("tasks: regression\ntraining: {steps: 20}\nrecipes: [bf16, mxfp4]\ngrid: {schedule: "
                  "[none, {switch: {to: mxfp8, step: 2}}, {switch: {to: mxfp8, step: 20}}]}\n")  # fmt: skip
    (note,) = check_rules(found.cells, found.path)
    assert note.endswith("schedule.switch.step 20 is never reached, it trains for 20 steps")
