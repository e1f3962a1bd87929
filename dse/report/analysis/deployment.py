"""Accuracy against the time of a training step of deployed models on hardware, from the sweep's recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from dse.cost.cost_places import PLACES
from dse.report.analysis.configs import ALL, pareto_front
from dse.report.analysis.tidy import row_dicts
from dse.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from dse.cost.cost_places import CostPlace
    from dse.cost.roofline import Interval, StepTime
    from dse.numerics.recipe import Recipe
    from dse.sweep import Sweep

MOST = 150
"""Different recipes that are timed: those that lose least. Each takes some ten milliseconds for each place."""
_SPOKEN = 6
_HIDDEN = ("overrides", "named", "number")
BOTH_ENDS, ONE_END = "at both ends", "at one end"
"""On the front of the means whatever is assumed about kernels and hardware; on it under some assumption."""


@dataclass(frozen=True)
class TimedConfig:
    """A configuration at a place: time of a step, BF16 = 1, from fused to separate kernels, and its place on the front.

    ``lost``, ``half``: the share of the improvement that is lost, and half of its 95 % interval. ``named``: the recipe
    without overrides. ``front``: 'at both ends' of the times, 'at one end' or nothing; ``assumption``: what has to
    hold where it is on the front at one; ``number``: its label in a figure, if it is on a front and has a long name.
    """

    config: str
    recipe: str
    overrides: str
    low: float
    high: float
    lost: float
    half: float
    named: bool = True
    front: str = ""
    assumption: str = ""
    number: str = ""


@dataclass(frozen=True)
class TaskTimes:
    """The configurations with a known loss on a task, or over all tasks (``ALL``), fastest first."""

    task: str
    configs: tuple[TimedConfig, ...]

    @property
    def front(self) -> list[TimedConfig]:
        """Those on the front under some assumption, fastest first."""
        return [one for one in self.configs if one.front]

    @property
    def described(self) -> str:
        """Its points in words."""
        members = [f"{one.config} ({one.low:.2f} to {one.high:.2f}, {one.front})" for one in self.front[:_SPOKEN]]
        return f"{self.task}, {plural(len(self.configs), 'configuration')}; on the front: {'; '.join(members)}."


@dataclass(frozen=True)
class PlaceTimes:
    """The configurations of a sweep at one place; ``untimed``: how many more have a known loss.

    ``overall``: over all tasks, None where no configuration is known on each; ``tasks``: each of several, or the only
    one where nothing is known over all.
    """

    at: CostPlace
    title: str
    overall: TaskTimes | None
    tasks: tuple[TaskTimes, ...]
    untimed: int = 0

    @property
    def all(self) -> tuple[TaskTimes, ...]:
        """Over all tasks, and each."""
        return ((self.overall,) if self.overall else ()) + self.tasks

    @property
    def main(self) -> tuple[TaskTimes, ...]:
        """Over all tasks, or each where nothing is known over all."""
        return (self.overall,) if self.overall else self.tasks


def place_times(sweep: Sweep, configs: pd.DataFrame, places: Sequence[CostPlace] = ()) -> list[PlaceTimes]:
    """The sweep's configurations at ``places``, or its own, or the usual ones; empty where no loss is known.

    Without those that quantize after training, of which a step of the training takes BF16's time.
    """
    from dse.cost.models import deployed
    from dse.cost.profiles import profile
    from dse.cost.training_phases import stated
    from dse.sweep import config_of

    rows = _known(configs)
    if not rows:
        return []
    recipes: dict[str, Recipe] = {}
    for cell in sweep.cells:
        for name in (cell.config, *map(config_of, cell.also)):
            own = stated(cell.trial.recipe, cell.trial.training.steps)
            recipes[name] = own if recipes.get(name, own) == own else cell.trial.recipe  # tasks of several lengths
    timed = set(list(dict.fromkeys(recipes[str(row["config"])] for row in rows))[:MOST])
    shown = [row for row in rows if recipes[str(row["config"])] in timed]
    untimed = len({str(row["config"]) for row in rows} - {str(row["config"]) for row in shown})
    found = []
    for at in places or sweep.places or PLACES:
        intervals = {name: _interval(recipes[name], at) for name in dict.fromkeys(str(row["config"]) for row in shown)}
        times = {str(task): _on_task(str(task), shown, intervals) for task in dict.fromkeys(r["task"] for r in shown)}
        overall = times.pop(ALL, None)
        tasks = tuple(times[name] for name in dict.fromkeys(map(str, configs["task"])) if name in times)
        title = f"{deployed(at.model).title} on {profile(at.hardware).title}"
        found.append(PlaceTimes(at, title, overall, () if overall and len(tasks) == 1 else tasks, untimed))
    return found


def _known(configs: pd.DataFrame) -> list[dict[str, object]]:
    """Rows with a loss and without a seed that diverged or stopped, the baseline's among them, the least loss first."""
    if configs.empty:
        return []
    known = configs["lost_mean"].notna() & (configs["diverged"] == 0) & (configs["stopped"] == 0)
    sound = configs[known & ~configs["after_training"]]
    compared = sound[sound["task"].isin(sound.loc[~sound["is_baseline"], "task"])]
    return row_dicts(compared.sort_values(["lost_mean", "config"]).drop_duplicates(["task", "config"]))


def _on_task(task: str, rows: Sequence[Mapping[str, object]], intervals: Mapping[str, Interval]) -> TaskTimes:
    found = []
    for row in rows:
        if row["task"] == task:
            config, recipe = str(row["config"]), str(row["recipe"])
            low, high = intervals[config].relative
            lost, half = float(str(row["lost_mean"])), float(str(row["lost_half"]))
            overrides = config.removeprefix(recipe).strip()
            found.append(TimedConfig(config, recipe, overrides, low, high, lost, half, bool(row["named"])))
    judged = _judged(found, {name: interval.missing for name, interval in intervals.items()})
    return TaskTimes(task, tuple(_numbered(judged)))


def _judged(found: Sequence[TimedConfig], missing: Mapping[str, Sequence[str]]) -> list[TimedConfig]:
    """With their places on the front under both assumptions, fastest first."""
    losses = [one.lost for one in found]
    low, high = (pareto_front([getattr(one, end) for one in found], losses) for end in ("low", "high"))
    judged = []
    for one, fused, separate in zip(found, low, high, strict=True):
        front = BOTH_ENDS if fused and separate else ONE_END if fused or separate else ""
        needs = f"the hardware has {missing[one.config][0]}" if missing[one.config] else "kernels are fused"
        why = "" if front != ONE_END else needs if fused else "kernels are not fused"
        judged.append(replace(one, front=front, assumption=why))
    return sorted(judged, key=lambda one: (one.low + one.high, one.config))


def _numbered(judged: Sequence[TimedConfig]) -> list[TimedConfig]:
    """With numbers, from the fastest on, for those on the front that no recipe's name tells."""
    unnamed = [one.config for one in judged if one.front and not one.named]
    numbers = {name: str(i) for i, name in enumerate(unnamed, 1)}
    return [replace(one, number=numbers.get(one.config, "")) for one in judged]


@cache
def _interval(recipe: Recipe, at: CostPlace) -> Interval:
    from dse.cost.models import deployed
    from dse.cost.roofline import AS_MEASURED, OPTIMISTIC, Interval, machine, step_time

    model, on = deployed(at.model), machine(at.hardware)
    low, high = (step_time(recipe, model, on, how) for how in (OPTIMISTIC, AS_MEASURED))
    return Interval(low, high, *_base(at))


@cache
def _base(at: CostPlace) -> tuple[StepTime, StepTime]:
    """BF16's step, its elementwise operations fused and not."""
    from dse.cost.models import deployed
    from dse.cost.roofline import AS_MEASURED, OPTIMISTIC, machine, step_time
    from dse.recipes.bf16 import BF16

    model, on = deployed(at.model), machine(at.hardware)
    low, high = (step_time(BF16, model, on, how) for how in (OPTIMISTIC, AS_MEASURED))
    return low, high


def deployment_frame(places: Iterable[PlaceTimes]) -> pd.DataFrame:
    """One row per place, task and configuration."""
    import pandas as pd

    rows = [
        {"model": place.at.model, "hardware": place.at.hardware, "task": times.task}
        | {key: value for key, value in vars(one).items() if key not in _HIDDEN}
        for place in places
        for times in place.all
        for one in times.configs
    ]
    return pd.DataFrame(rows)


def finite(value: float) -> float:
    """A half width that is unknown is drawn as none."""
    return value if math.isfinite(value) else 0.0


__all__ = [
    "BOTH_ENDS",
    "ONE_END",
    "PlaceTimes",
    "TaskTimes",
    "TimedConfig",
    "deployment_frame",
    "finite",
    "place_times",
]
