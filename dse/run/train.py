"""Training trials: a pack of them at a time, or one alone, which is a pack of one.

Imports torch and the mathematics only, so it runs on a bare GPU machine.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dse.errors import UserError
from dse.probes import Probes
from dse.probes.prober import Prober
from dse.run.checkpoint import Checkpoints
from dse.run.course import Course
from dse.run.halving import Leg, Rule
from dse.run.provenance import device_name, host, versions
from dse.run.record import FAILED, Record
from dse.run.trail import Trail, setting
from dse.trial import Trial
from tasks.base import Task, to_device

_LOOK = 50
"""Steps between looks at the members on a GPU, which wait for it; on the CPU every step is looked at."""

OnStep = Callable[[int, int], None]


def run_trial(
    trial: Trial,
    config: str = "",
    data_dir: Path | None = None,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> Record:
    """Trains and evaluates one trial; see ``run_pack``."""
    return run_pack([trial], [config], data_dir, device, on_step)[0]


def run_pack(
    trials: Sequence[Trial],
    configs: Sequence[str] = (),
    data_dir: Path | None = None,
    device: str = "cpu",
    on_step: OnStep | None = None,
    halving: Rule | None = None,
    probes: Probes | None = None,
    checkpoints: Checkpoints | None = None,
    leg: Leg | None = None,
) -> list[Record]:
    """Trains and evaluates trials of one signature (``dse.pack.lineup``) together; one record each, in their order.

    ``on_step(step, steps)`` is called before each step. Divergence is a result (``diverged``) and leaves the other
    members as they are. An exception of the model or the numerics, or too little memory, splits the pack in halves that
    start anew; alone, it is a result too (``failed``, with its traceback). UserError (missing data, say) is raised: it
    concerns the sweep, not the trial. ``probes`` change nothing but the records' field of this name.

    With ``halving`` the worse trials stop at its rungs; ``leg``: who judges them, the pack itself without it. A trial
    that waits at a rung leaves the record of one that has stopped there, and a checkpoint.

    With ``checkpoints`` it writes some, and goes on from what is there: trials whose newest ones are of the same step
    train together, the others on their own. Raises ``Left`` when it was asked to leave.
    """
    names = list(configs) or [trial.recipe.name for trial in trials]
    leg = leg or Leg(min(halving.at(trials[0].training.steps).values(), default=None), len(trials)) if halving else None
    common = (data_dir, device, on_step, halving, probes, checkpoints, leg)
    if checkpoints is None:
        return _run_part(trials, names, (), *common)
    uids, limit = [trial.uid for trial in trials], None
    if halving and leg and leg.rung:
        limit = next(step for step, rung in halving.at(trials[0].training.steps).items() if rung == leg.rung)
    records: dict[int, Record] = {}
    parts = checkpoints.parts(uids, leg is not None and leg.group == len(trials), limit)
    if leg and any(part.step == limit and not part.judged for part in parts):
        common = (*common[:-1], replace(leg, group=0))  # they have been at the rung, which a pack passes only once
    for part in parts:
        own, own_names = [trials[i] for i in part.places], [names[i] for i in part.places]
        records |= zip(part.places, _run_part(own, own_names, part.paths, *common), strict=True)
    return [records[i] for i in range(len(trials))]


def _run_part(
    trials: Sequence[Trial],
    names: Sequence[str],
    paths: Sequence[Path],
    data_dir: Path | None,
    device: str,
    on_step: OnStep | None,
    halving: Rule | None,
    probes: Probes | None,
    checkpoints: Checkpoints | None,
    leg: Leg | None,
) -> list[Record]:
    """Trials that train together, from the checkpoints at ``paths`` if there are any."""
    judged = leg is not None and leg.group == len(trials)
    prober = Prober(probes) if probes else None
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    extras: list[dict[str, Any]]
    fingerprint, error, before = "", "", 0.0
    try:
        data, fingerprint = load(trials[0].task, data_dir, device)
        own = setting(trials, device, fingerprint, halving, probes, judged)
        trail = Trail(checkpoints, paths, own, prober, judged)
        extras = _train(trials, data, device, on_step, halving, prober, trail, leg)
        before = trail.seconds
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - a trial's failure is data, kept whole
        error = traceback.format_exc()
    if error:
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        if len(trials) > 1:
            half = len(trials) // 2
            parts = (slice(None, half), slice(half, None))
            rest = (data_dir, device, on_step, halving, probes, checkpoints, leg)
            return [record for part in parts for record in run_pack(trials[part], names[part], *rest)]
        extras = [{"status": FAILED, "error": error}]
    seconds = round(before + (time.perf_counter() - clock) / len(trials), 6)
    return [
        Record(
            uid=trial.uid,
            baseline_uid=trial.baseline().uid,
            task=trial.task.name,
            recipe=trial.recipe.name,
            config=name or trial.recipe.name,
            seed=trial.seed,
            trial=trial.spec,
            seconds=seconds,
            started=started,
            device=device_name(device),
            host=host(),
            data=fingerprint,
            versions=versions(),
            probes=prober.rows.get(trial.uid, []) if prober else [],
            **extra,
        )
        for trial, name, extra in zip(trials, names, extras, strict=True)
    ]


@lru_cache(maxsize=4)
def load(task: Task[Any], data_dir: Path | None, device: str) -> tuple[Any, str]:
    """The task's data on ``device`` and its fingerprint, kept for the next trial of this process."""
    data = task.load(data_dir)
    return to_device(data, device), task.data_fingerprint(data)


def _train(
    trials: Sequence[Trial],
    data: Any,
    device: str,
    on_step: OnStep | None,
    halving: Rule | None,
    prober: Prober | None,
    trail: Trail,
    leg: Leg | None,
) -> list[dict[str, Any]]:
    """Trains the pack; per trial, in the given order, the fields of its record that training decides."""
    course = Course(trials, data, device)
    trail.restore(course)
    t = trials[0].training
    rungs = halving.at(t.steps) if halving else {}
    judged = leg is not None and leg.group == len(trials)
    goal = next((s for s, rung in rungs.items() if leg and rung == leg.rung and not judged), t.steps)
    look = _LOOK if course.program.pack.device.type == "cuda" else 1
    if not course.step:
        course.evaluate()
    for step in range(course.step, goal):
        program = course.program
        if on_step:
            on_step(step, t.steps)
        if program.pack.scheduled and program.pack.reschedule(step, t.steps):
            course.stepper.reset()
        if prober:
            prober(program, step)
        course.stepper()
        course.step = step + 1
        if course.step % look == 0 and not program.alive.any():
            break
        due = bool(t.eval_every) and course.step % t.eval_every == 0 and course.step < t.steps
        if due or course.step in rungs:
            course.evaluate()
        if halving and judged and leg and leg.rung and rungs.get(course.step, 0) >= leg.rung:
            course.halve(halving, rungs[course.step])
        trail.keep(course, now=course.step == goal < t.steps)
    else:
        if goal < t.steps:
            course.wait(rungs[goal])
            return [own | {"pack": own["pack"] | trail.facts} for own in course.results]
    course.finish()
    return [own | {"pack": own["pack"] | trail.facts} for own in course.results]


__all__ = ["load", "run_pack", "run_trial", "versions"]
