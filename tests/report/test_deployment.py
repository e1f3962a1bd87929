"""The report's front against the time of a training step of deployed models on hardware."""

from pathlib import Path

import pytest

from dse.cost.models import deployed
from dse.cost.roofline import machine, step_interval
from dse.recipes import RECIPES
from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.deployment import PLACES, ROBUSTLY, SOMETIMES, deployment_frame, place_times
from dse.report.analysis.tidy import tabulate
from tests.report.studies import records_of, sweep_of

LOST = {"bf16": 0.0, "mxfp8": 0.05, "mxfp4": 0.5, "nvfp4": 0.3, "ue5m3": 0.2, "quartet2": 0.6}
TEXT = "tasks: [lm]\nrecipes: [bf16, mxfp8, mxfp4, nvfp4, ue5m3, quartet2]\nseeds: 2\n"


def test_robustly_and_sometimes_on_the_front(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    records = records_of(sweep, lambda labels: 1.0 + LOST[str(labels["recipe"])])
    places = place_times(sweep, aggregate_seeds(tabulate(sweep, records)))
    assert [(place.model, place.hardware) for place in places] == list(PLACES)
    at = {place.hardware: {one.config: one for one in place.configs} for place in places if place.model == "llama3-8b"}
    own = at["b200"]
    interval = step_interval(RECIPES["nvfp4"], deployed("llama3-8b"), machine("b200"))
    assert (own["nvfp4"].low, own["nvfp4"].high) == pytest.approx(interval.relative)
    assert own["bf16"].front == own["mxfp8"].front == ROBUSTLY
    assert own["quartet2"].front == ""  # slower than mxfp4, and loses more
    unit = "the hardware has a unit for e2m1 with ue5m3 scales per 16"
    assert (own["ue5m3"].front, own["ue5m3"].assumption) == (SOMETIMES, unit)
    assert at["mi355x"]["nvfp4"].front != ROBUSTLY  # E4M3 scales have no unit there
    frame = deployment_frame(places)
    assert len(frame) == len(PLACES) * len(LOST)
    assert {"model", "hardware", "config", "low", "high", "front", "assumption"} <= set(frame.columns)


def test_nothing_is_known(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    assert place_times(sweep, aggregate_seeds(tabulate(sweep, []))) == []
