"""The plan of a sweep: trials done and to run, cells left out and why, and the expected time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dse.optim.moment_memory import moment_memory
from dse.pack.slowdown import slowdown
from dse.plan.estimate import PROBED, Timing
from dse.plan.timing import MEASURED, SIMILAR
from dse.sweep.cells.cell import Cell
from dse.sweep.cells.sweep import Sweep
from dse.sweep.language.labels import Label
from dse.text import duration
from dse.trial import Trial


@dataclass(frozen=True)
class Count:
    """Numbers of trials: all, with a result (``done``), and still to run (``todo``)."""

    total: int = 0
    done: int = 0

    @property
    def todo(self) -> int:
        return self.total - self.done


@dataclass(frozen=True)
class Plan:
    """The plan of a sweep.

    - ``count``: of all trials; ``baselines``: of those that are baselines;
    - ``by_axis``: axis -> label -> count; a baseline does not count on the axes that do not apply to it;
    - ``done``: status -> trials (ok, diverged, failed); ``todo``: the cells still to run, in order;
    - ``excluded``: reason -> cells, most first; ``merged``: cells that are the same trial as another one;
    - ``seconds``: of what is to run, on one worker; ``sources``: where the figure is from -> trials; ``unknown``:
      trials to run that it leaves out;
    - ``first``: trials that others start from and whose weights are missing, which run before them;
    - ``moments``: of its optimizers whose moments are not kept in FP32, the memory that these take;
    - ``slow``: trials to run of which plain torch computes a part on a GPU: what, why and how much slower -> number.
    """

    sweep: Sweep
    count: Count
    baselines: Count
    by_axis: Mapping[str, Mapping[Label, Count]]
    done: Mapping[str, int]
    todo: tuple[Cell, ...]
    excluded: Mapping[str, int]
    merged: int
    seconds: float = 0.0
    sources: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    slow: Mapping[str, int] = field(default_factory=dict)
    first: tuple[Trial, ...] = ()
    moments: tuple[str, ...] = ()

    def duration(self, workers: int = 1) -> str:
        """The estimate as a sentence, for so many workers at a time."""
        if not self.todo:
            return "nothing to run"
        workers = max(1, min(workers, len(self.todo)))
        if self.unknown == len(self.todo):
            return "no estimate: nothing like it has run yet"
        what = [f"{self.sources[s]} {_SAID[s]}" for s in (MEASURED, SIMILAR, PROBED) if self.sources.get(s)]
        if self.unknown:
            what.append(f"{self.unknown} not counted")
        on = f"{workers} workers" if workers > 1 else "1 worker"
        return f"about {duration(self.seconds / workers)} on {on} ({', '.join(what)})"


_SAID = {
    MEASURED: "by completed trials of the same recipe",
    SIMILAR: "by completed trials of the same task with other recipes",
    PROBED: "estimated from a few steps",
}


def make_plan(
    sweep: Sweep, done: Mapping[str, str], seconds: Mapping[str, Timing] | None = None, first: Sequence[Trial] = ()
) -> Plan:
    """The plan of a sweep. ``done``: uid -> status of every trial with a result; ``seconds``: uid -> expected time;
    ``first``: what its trials start from and is missing (``dse.train.weights``)."""
    timings = seconds or {}
    finished = [cell for cell in sweep.cells if cell.uid in done]
    references = [cell for cell in sweep.cells if cell.is_baseline]
    by_axis: dict[str, dict[Label, Count]] = {}
    for axis, labels in sweep.axes.items():
        total = Counter(cell.labels[axis] for cell in sweep.cells)
        ready = Counter(cell.labels[axis] for cell in finished)
        by_axis[axis] = {label: Count(total[label], ready[label]) for label in labels}
    todo = tuple(cell for cell in sweep.cells if cell.uid not in done)
    known = [timings[cell.uid] for cell in todo if cell.uid in timings]
    return Plan(
        sweep=sweep,
        count=Count(len(sweep.cells), len(finished)),
        baselines=Count(len(references), sum(cell.uid in done for cell in references)),
        by_axis=by_axis,
        done=Counter(done[cell.uid] for cell in finished),
        todo=todo,
        excluded=dict(Counter(e.reason for e in sweep.excluded).most_common()),
        merged=sweep.merged,
        seconds=sum(timing.seconds for timing in known),
        sources=Counter(timing.source for timing in known),
        unknown=len(todo) - len(known),
        slow=_slow(todo),
        first=tuple(first),
        moments=_moments(sweep.cells),
    )


def _moments(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The memory of moments that are not kept in FP32, one line for each kind among the cells."""
    kinds = dict.fromkeys(
        (t.optimizer, t.first_moment, t.second_moment) for t in (cell.trial.training for cell in cells)
    )
    return tuple(moment_memory(*kind) for kind in kinds if kind[1:] != ("fp32", "fp32"))


def _slow(cells: Sequence[Cell]) -> dict[str, int]:
    """Trials that are slower on a GPU than those which kernels compute, by what it is, most first."""
    configs = Counter(cell.config for cell in cells)
    recipes = {cell.config: cell.trial.recipe for cell in cells}
    found: Counter[str] = Counter()
    for config, recipe in recipes.items():
        if cost := slowdown(recipe):
            found[f"{recipe.name or config}: {cost}"] += configs[config]
    return dict(found.most_common())
