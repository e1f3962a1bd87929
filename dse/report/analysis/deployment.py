"""Accuracy against the time of a training step of deployed models on hardware, from the sweep's recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL, pareto_front
from dse.report.analysis.tidy import row_dicts

if TYPE_CHECKING:
    import pandas as pd

    from dse.cost.roofline import Interval, StepTime
    from dse.numerics.recipe import Recipe
    from dse.sweep import Sweep

PLACES = (
    ("llama3-8b", "b200"),
    ("llama3-8b", "mi355x"),
    ("llama3-8b", "rtx-pro-6000"),
    ("dsv3-16b", "b200"),
)
"""Models and hardware that a report can show; the first is shown at once."""
MOST = 40
"""Configurations that are timed: those that lose least. Each takes some ten milliseconds for each place."""
ROBUSTLY, SOMETIMES = "robustly", "sometimes"
"""On the front whatever is assumed about kernels and hardware; on it under some assumption."""


@dataclass(frozen=True)
class TimedConfig:
    """A configuration at a place: time of a step, BF16 = 1, from fused to separate kernels, and its place on the front.

    ``lost``, ``half``: the share of the improvement that is lost, and half of its 95 % interval. ``front``: 'robustly',
    'sometimes' or nothing; ``assumption``: what has to hold where it is on the front sometimes.
    """

    config: str
    recipe: str
    overrides: str
    low: float
    high: float
    lost: float
    half: float
    front: str = ""
    assumption: str = ""


@dataclass(frozen=True)
class PlaceTimes:
    """The configurations of a sweep at one place, fastest first."""

    model: str
    hardware: str
    title: str
    configs: tuple[TimedConfig, ...]


def place_times(sweep: Sweep, configs: pd.DataFrame) -> list[PlaceTimes]:
    """The sweep's configurations at every place; empty where no loss is known."""
    rows = _known(configs)
    recipes = {cell.config: cell.trial.recipe for cell in sweep.cells}
    return [_at(model, hardware, rows, recipes) for model, hardware in PLACES] if rows else []


def _known(configs: pd.DataFrame) -> list[dict[str, object]]:
    """Rows over all tasks with a loss and without a seed that diverged or stopped, the baseline among them."""
    if configs.empty:
        return []
    rows = configs[(configs["task"] == ALL) & configs["lost_mean"].notna()]
    sound = rows[(rows["diverged"] == 0) & (rows["stopped"] == 0)].sort_values("lost_mean")
    return row_dicts(sound.drop_duplicates("config").head(MOST))


def _at(model: str, hardware: str, rows: Sequence[Mapping[str, object]], recipes: Mapping[str, Recipe]) -> PlaceTimes:
    from dse.cost.models import deployed
    from dse.cost.profiles import profile

    found, missing = [], {}
    for row in rows:
        config = str(row["config"])
        interval = _interval(recipes[config], model, hardware)
        low, high = interval.relative
        missing[config] = interval.missing
        overrides = config.removeprefix(str(row["recipe"])).strip()
        lost, half = float(str(row["lost_mean"])), float(str(row["lost_half"]))
        found.append(TimedConfig(config, str(row["recipe"]), overrides, low, high, lost, half))
    title = f"{deployed(model).title} on {profile(hardware).title}"
    return PlaceTimes(model, hardware, title, tuple(_judged(found, missing)))


def _judged(found: Sequence[TimedConfig], missing: Mapping[str, Sequence[str]]) -> list[TimedConfig]:
    """With their places on the front under both assumptions, fastest first."""
    losses = [one.lost for one in found]
    low, high = (pareto_front([getattr(one, end) for one in found], losses) for end in ("low", "high"))
    judged = []
    for one, fused, separate in zip(found, low, high, strict=True):
        front = ROBUSTLY if fused and separate else SOMETIMES if fused or separate else ""
        needs = f"the hardware has {missing[one.config][0]}" if missing[one.config] else "kernels are fused"
        why = "" if front != SOMETIMES else needs if fused else "kernels are not fused"
        judged.append(TimedConfig(**{**vars(one), "front": front, "assumption": why}))
    return sorted(judged, key=lambda one: (one.low + one.high, one.config))


@cache
def _interval(recipe: Recipe, model: str, hardware: str) -> Interval:
    from dse.cost.models import deployed
    from dse.cost.roofline import AS_MEASURED, OPTIMISTIC, Interval, machine, step_time

    own, place = deployed(model), machine(hardware)
    low, high = (step_time(recipe, own, place, how) for how in (OPTIMISTIC, AS_MEASURED))
    return Interval(low, high, *_base(model, hardware))


@cache
def _base(model: str, hardware: str) -> tuple[StepTime, StepTime]:
    """BF16's step, its elementwise operations fused and not."""
    from dse.cost.models import deployed
    from dse.cost.roofline import AS_MEASURED, OPTIMISTIC, machine, step_time
    from dse.recipes.bf16 import BF16

    low, high = (step_time(BF16, deployed(model), machine(hardware), how) for how in (OPTIMISTIC, AS_MEASURED))
    return low, high


def deployment_frame(places: Iterable[PlaceTimes]) -> pd.DataFrame:
    """One row per place and configuration."""
    import pandas as pd

    rows = [
        {"model": place.model, "hardware": place.hardware, **{k: v for k, v in vars(one).items() if k != "overrides"}}
        for place in places
        for one in place.configs
    ]
    return pd.DataFrame(rows)


def finite(value: float) -> float:
    """A half width that is unknown is drawn as none."""
    return value if math.isfinite(value) else 0.0


__all__ = ["PLACES", "ROBUSTLY", "SOMETIMES", "PlaceTimes", "TimedConfig", "deployment_frame", "finite", "place_times"]
