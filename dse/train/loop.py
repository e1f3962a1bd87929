"""Training trials: a pack of them at a time, or one alone, which is a pack of one.

Imports torch and the mathematics only, so it runs on a bare GPU machine.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dse.errors import UserError
from dse.pack.step import TrainStep
from dse.probes.prober import Prober
from dse.results.record import FAILED, Record
from dse.results.versions import versions
from dse.tasks.base import Task, to_device
from dse.train.context import PLAIN, TrainContext, last_line
from dse.train.halving import RungTarget
from dse.train.pack_run import PackRun
from dse.train.provenance import device_name, host
from dse.train.resume import CheckpointHook, setting
from dse.trial import Trial

_LOOK = 50
"""Steps between looks at the members on a GPU, which wait for it; on the CPU every step is looked at."""


def run_trial(trial: Trial, setup: TrainContext = PLAIN, config: str = "") -> Record:
    """Trains and evaluates one trial; see ``run_pack``."""
    return run_pack([trial], setup, [config])[0]


def run_pack(trials: Sequence[Trial], setup: TrainContext = PLAIN, configs: Sequence[str] = ()) -> list[Record]:
    """Trains and evaluates trials of one signature (``dse.pack.grouping``) together; one record each, in their order.

    ``configs``: the trials' names in their sweep, by default those of their recipes. Divergence is a result
    (``diverged``) and leaves the other members as they are. An exception of the model or the numerics, or too little
    memory, splits the pack in halves that start anew, and their records say why; alone, it is a result too (``failed``,
    with its traceback). What goes wrong in evaluating a trained model costs what it was to tell alone (``PackRun``).
    UserError (missing data, say) is raised: it concerns the sweep, not the trial. Probes change nothing but the
    records' field of this name.

    With halving the worse trials stop at its rungs. A trial that waits at a rung leaves the record of one that has
    stopped there, and a checkpoint. With checkpoints, trials whose newest ones are of the same step train together, the
    others on their own. Raises ``Left`` when it was asked to leave.
    """
    names = [config or trial.recipe.name for config, trial in zip(configs or [""] * len(trials), trials, strict=True)]
    rungs = setup.halving.at(trials[0].training.steps) if setup.halving else {}
    leg = setup.leg or RungTarget(min(rungs.values(), default=None), len(trials)) if setup.halving else None
    setup = replace(setup, leg=leg)
    if setup.checkpoints is None:
        return _run_part(trials, names, (), setup)
    limit = next((step for step, rung in rungs.items() if leg and rung == leg.rung), None)
    parts = setup.checkpoints.parts([trial.uid for trial in trials], _judged(trials, setup), limit)
    if leg and any(part.step == limit and not part.judged for part in parts):
        setup = replace(setup, leg=replace(leg, group=0))  # they have been at the rung, which a pack passes only once
    records: dict[int, Record] = {}
    for part in parts:
        own, own_names = [trials[i] for i in part.places], [names[i] for i in part.places]
        records |= zip(part.places, _run_part(own, own_names, part.paths, setup), strict=True)
    return [records[i] for i in range(len(trials))]


def _judged(trials: Sequence[Trial], setup: TrainContext) -> bool:
    """Whether a pack judges itself at the rungs."""
    return setup.leg is not None and setup.leg.group == len(trials)


def _run_part(
    trials: Sequence[Trial], names: Sequence[str], paths: Sequence[Path], setup: TrainContext
) -> list[Record]:
    """Trials that train together, from the checkpoints at ``paths`` if there are any."""
    judged = _judged(trials, setup)
    prober = Prober(setup.probes) if setup.probes else None
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    extras: list[dict[str, Any]]
    fingerprint, error, before = "", "", 0.0
    try:
        data, fingerprint = load(trials[0].task, setup.data_dir, setup.device)
        trail = CheckpointHook(setup.checkpoints, paths, setting(trials, setup, fingerprint, judged), prober, judged)
        extras = _train(PackRun(trials, data, setup.device), setup, prober, trail)
        before = trail.seconds
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - a trial's failure is data, kept whole
        error = traceback.format_exc()
    if error:
        if setup.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if len(trials) > 1:
            half = len(trials) // 2
            parts, setup = (slice(None, half), slice(half, None)), setup.split(len(trials), last_line(error))
            return [record for part in parts for record in run_pack(trials[part], setup, names[part])]
        extras = [{"status": FAILED, "error": error}]
    seconds = round(before + (time.perf_counter() - clock) / len(trials), 6)
    records = [
        Record(
            uid=trial.uid,
            baseline_uid=trial.baseline().uid,
            task=trial.task.name,
            recipe=trial.recipe.name,
            config=name,
            seed=trial.seed,
            trial=trial.spec,
            seconds=seconds,
            started=started,
            device=device_name(setup.device),
            host=host(),
            data=fingerprint,
            versions=versions(),
            probes=prober.rows.get(trial.uid, []) if prober else [],
            **(extra | {"pack": extra.get("pack", {}) | setup.facts}),
        )
        for trial, name, extra in zip(trials, names, extras, strict=True)
    ]
    if setup.on_done:
        setup.on_done(records)
    return records


@lru_cache(maxsize=4)
def load(task: Task[Any], data_dir: Path | None, device: str) -> tuple[Any, str]:
    """The task's data on ``device`` and its fingerprint, kept for the next trial of this process."""
    data = task.load(data_dir)
    return to_device(data, device), task.data_fingerprint(data)


def _train(course: PackRun, setup: TrainContext, prober: Prober | None, trail: CheckpointHook) -> list[dict[str, Any]]:
    """Trains the pack; per trial, in the given order, the fields of its record that training decides."""
    trail.restore(course)
    t = course.trials[0].training
    rungs, leg = setup.halving.at(t.steps) if setup.halving else {}, setup.leg
    judged = _judged(course.trials, setup)
    goal = next((s for s, rung in rungs.items() if leg and rung == leg.rung and not judged), t.steps)
    look = _LOOK if course.program.pack.device.type == "cuda" else 1
    if not course.step:
        course.evaluate()
    for step in range(course.step, goal):
        program = course.program
        if setup.on_step:
            setup.on_step(step, t.steps)
        if program.pack.scheduled and program.pack.reschedule(step, t.steps):
            course.stepper.reset()
        if prober:
            _probe(prober, program, step, trail)
        course.stepper()
        course.step = step + 1
        if course.step % look == 0 and not program.alive.any():
            break
        due = bool(t.eval_every) and course.step % t.eval_every == 0 and course.step < t.steps
        if course.step in rungs:
            course.evaluate()
        elif due:
            course.look()
        if setup.halving and judged and leg and leg.rung and rungs.get(course.step, 0) >= leg.rung:
            course.halve(setup.halving, rungs[course.step])
        trail.keep(course, now=course.step == goal < t.steps)
    else:
        if goal < t.steps:
            course.wait(rungs[goal])
            return [own | {"pack": own["pack"] | trail.facts} for own in course.results]
    course.finish()
    return [own | {"pack": own["pack"] | trail.facts} for own in course.results]


def _probe(prober: Prober, program: TrainStep, step: int, trail: CheckpointHook) -> None:
    """Looks into the layers; what goes wrong there costs this look, and is said in the records."""
    try:
        prober(program, step)
    except Exception as error:  # noqa: BLE001 - too little memory, say: probes are provenance, training goes on
        first = last_line(f"{type(error).__name__}: {error}")
        trail.facts["probes_missing_because"] = f"step {step}: {first}"
        if program.pack.device.type == "cuda":
            torch.cuda.empty_cache()


__all__ = ["PLAIN", "TrainContext", "load", "run_pack", "run_trial", "versions"]
