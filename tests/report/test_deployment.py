"""The report's front against the time of a training step of deployed models on hardware."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dse.cli import app
from dse.cost import models
from dse.cost.cost_places import PLACES
from dse.cost.models import deployed
from dse.cost.roofline import machine, step_interval
from dse.errors import UserError
from dse.recipes import RECIPES
from dse.report.analysis.configs import aggregate_seeds, pareto_front
from dse.report.analysis.deployment import BOTH_ENDS, ONE_END, deployment_frame, place_times
from dse.report.analysis.front_draws import mean_deviations
from dse.report.analysis.place_draws import place_draws
from dse.report.analysis.tidy import tabulate
from dse.report.findings.at_hardware import fronts_at_places
from dse.results.store import Store
from tests.report.studies import records_of, sweep_of

LOST = {"bf16": 0.0, "mxfp8": 0.05, "mxfp4": 0.5, "nvfp4": 0.3, "ue5m3": 0.2, "quartet2": 0.6}
TEXT = "tasks: [lm]\nrecipes: [bf16, mxfp8, mxfp4, nvfp4, ue5m3, quartet2]\nseeds: 2\n"


def test_robustly_and_sometimes_on_the_front(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    records = records_of(sweep, lambda labels: 1.0 + LOST[str(labels["recipe"])])
    places = place_times(sweep, aggregate_seeds(tabulate(sweep, records)))
    assert [place.at for place in places] == list(PLACES)
    assert all(place.overall and not place.tasks for place in places)  # one task: over all is the same
    at = {
        place.at.hardware: {one.config: one for one in place.main[0].configs}
        for place in places
        if place.at.model == "llama3-8b"
    }
    own = at["b200"]
    interval = step_interval(RECIPES["nvfp4"], deployed("llama3-8b"), machine("b200"))
    assert (own["nvfp4"].low, own["nvfp4"].high) == pytest.approx(interval.relative)
    assert own["bf16"].front == own["mxfp8"].front == BOTH_ENDS
    assert own["quartet2"].front == ""  # slower than mxfp4, and loses more
    unit = "the hardware has a unit for e2m1 with ue5m3 scales per 16"
    assert (own["ue5m3"].front, own["ue5m3"].assumption) == (ONE_END, unit)
    assert at["mi355x"]["nvfp4"].front != BOTH_ENDS  # E4M3 scales have no unit there
    frame = deployment_frame(places)
    assert len(frame) == len(PLACES) * len(LOST)
    assert {"model", "hardware", "config", "low", "high", "front", "assumption"} <= set(frame.columns)


def test_places_on_the_front_by_draws(tmp_path: Path) -> None:
    """Each draw's front by itself gives the same shares; without noise they are the fronts of the means."""
    sweep = sweep_of(tmp_path, TEXT.replace("seeds: 2", "seeds: 4"))
    seed = 4
    print("seed", seed)
    random = np.random.default_rng(seed)

    def loss(labels: Mapping[str, Any]) -> float:
        return 1.0 + LOST[str(labels["recipe"])]

    noisy = tabulate(sweep, records_of(sweep, lambda labels: loss(labels) + 0.05 * random.normal()))
    places = place_times(sweep, aggregate_seeds(noisy))[:1]
    (found,) = place_draws(noisy, places)
    configs = places[0].main[0].configs
    names = [one.config for one in configs]
    samples = np.array([one.lost for one in configs]) + mean_deviations(noisy, names)
    shares = [
        np.mean([pareto_front([getattr(one, end) for one in configs], row) for row in samples.tolist()], axis=0)
        for end in ("low", "high")
    ]
    assert found.known
    assert {one.config: (one.least, one.most) for one in found.members} == {
        name: pytest.approx((min(pair), max(pair))) for name, pair in zip(names, zip(*shares, strict=True), strict=True)
        if max(pair)
    }  # fmt: skip
    assert 0.05 < min(one.most for one in found.members) < 0.95

    exact = tabulate(sweep, records_of(sweep, loss))
    places = place_times(sweep, aggregate_seeds(exact))[:1]
    (sure,) = place_draws(exact, places)
    for mine, front in ((sure.robustly, BOTH_ENDS), (sure.sometimes, ONE_END)):
        assert {one.config for one in mine} == {one.config for one in places[0].main[0].configs if one.front == front}
    said = fronts_at_places([sure])
    assert said is not None
    assert said.sentence.startswith("Llama 3 8B on NVIDIA B200 (HGX): on the front robustly mxfp4, mxfp8 and bf16; ")
    assert said.sentence.replace("\u00a0", " ").endswith(
        "sometimes nvfp4 (< 0.01 to > 0.99) and ue5m3 (< 0.01 to > 0.99)."
    )
    alone = tabulate(sweep_of(tmp_path, TEXT.replace("seeds: 2", "seeds: 1")), records_of(sweep, loss))
    (unknown,) = place_draws(alone, place_times(sweep, aggregate_seeds(alone))[:1])
    said = fronts_at_places([unknown])
    assert said is not None
    assert said.sentence.endswith("; one seed gives no probability.")
    assert fronts_at_places([]) is None


def test_nothing_is_known(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    assert place_times(sweep, aggregate_seeds(tabulate(sweep, []))) == []


def test_places_are_the_sweeps(tmp_path: Path) -> None:
    """Those that the sweep names, a model of one's own beside the file among them; others on the command line."""
    own = (Path(models.__file__).parent / "llama3-1b.yaml").read_text(encoding="utf-8").replace("Llama 3.2 1B", "Mine")
    (tmp_path / "mine.yaml").write_text(own, encoding="utf-8")
    sweep = sweep_of(tmp_path, TEXT + "places: [nemotron-h-8b on gb200, mine.yaml on h200]\n")
    configs = aggregate_seeds(tabulate(sweep, records_of(sweep, lambda labels: 1.0 + LOST[str(labels["recipe"])])))
    first, second = place_times(sweep, configs)
    assert first.title == "Nemotron-H 8B on NVIDIA GB200"
    assert second.title.startswith("Mine on NVIDIA H200")
    assert second.main[0].configs[0].config == "mxfp8"  # H200 has units for eight bits, and none for four
    hardware = {one.config: one.assumption for one in first.main[0].configs}
    assert set(hardware) == set(LOST)


def test_each_task_where_nothing_is_known_over_all(tmp_path: Path) -> None:
    text = "tasks: [lm, addition]\nrecipes: [bf16, nvfp4, mxfp4]\nseeds: 2\nplaces: llama3-8b on b200\n"
    sweep = sweep_of(tmp_path, text)
    records = records_of(sweep, lambda labels: 1.0 + LOST[str(labels["recipe"])])
    task = {cell.uid: (cell.labels["task"], cell.labels["recipe"]) for cell in sweep.cells}
    lost = [r for r in records if task[r.uid] not in (("lm", "mxfp4"), ("addition", "nvfp4"))]
    configs = aggregate_seeds(tabulate(sweep, lost))
    (place,) = place_times(sweep, configs)
    assert place.overall is None
    assert [(one.task, {c.config for c in one.configs}) for one in place.tasks] == [
        ("lm", {"bf16", "nvfp4"}),
        ("addition", {"bf16", "mxfp4"}),
    ]
    assert {one.front for times in place.tasks for one in times.configs} == {BOTH_ENDS}
    assert set(deployment_frame([place])["task"]) == {"lm", "addition"}


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ("[llama3-8b]", "places: a place is a model on hardware, for example 'llama3-8b on b200'; found 'llama3-8b'"),
        ("[llama3-8b on b2000]", "places: unknown hardware 'b2000'; did you mean 'b200'?"),
        ("[llama3-8b on b200, llama3-8b on b200]", "places: llama3-8b on b200 is listed twice"),
        ("[]", "places: the list is empty"),
    ],
)
def test_places_that_mean_nothing(tmp_path: Path, places: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        sweep_of(tmp_path, TEXT + f"places: {places}\n")
    assert ":4:" in str(caught.value)


def test_places_on_the_command_line(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    store = Store(tmp_path / "results")
    store.append(*records_of(sweep, lambda labels: 1.0 + LOST[str(labels["recipe"])]))
    run = ["report", str(sweep.path), "--results", str(store.folder), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*run, "--place", "vit-l on h200", "--place", "llama3-70b on gb200"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / f"{sweep.name}.html").read_text(encoding="utf-8")
    labels = re.findall(r'<label for="place-\w+">(.*?)</label>', page)
    assert labels == ["time, vit-l on h200", "time, llama3-70b on gb200", "operations"]
    again = "--place &#39;vit-l on h200&#39; --place &#39;llama3-70b on gb200&#39;"
    assert re.search(rf"dse report [^<]* {again}", page)
    assert page.index('id="place-1" checked') < page.index('id="place-2"')
    figures = {
        name: part for part in page.split("<figure>") for name in ("place-1", "place-2") if f"{name}.svg" in part
    }
    for part in figures.values():  # one configuration of each, so that no marker is used twice
        titles = re.findall(
            r'<g class="pt" data-c="\d+" tabindex="0"><title>(.*?)</title><(?:use|path) ', part, re.DOTALL
        )
        assert {title.split("\n")[0] for title in titles} == set(LOST)
        assert len(titles) == len(LOST)
        assert all(re.search(r"\nlm: gap .*\n(.*\n)*.*dse why ", title) for title in titles)
    wrong = CliRunner().invoke(app, [*run, "--place", "vit-l"])
    assert wrong.exit_code != 0
