"""Training trials: a pack of them at a time, or one alone, which is a pack of one.

Imports torch and the mathematics only, so it runs on a bare GPU machine.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dse.errors import UserError
from dse.pack.lineup import ordered, use_kernels
from dse.run.graph import Stepper
from dse.run.halving import Rule, survivors
from dse.run.program import Program
from dse.run.provenance import device_name, host, provenance, versions
from dse.run.record import DIVERGED, FAILED, OK, STOPPED, Record
from dse.trial import Trial
from tasks.base import Task, to_device

_POINTS = 100
"""Training losses kept per curve, at most about twice as many."""
_LOOK = 50
"""Steps between looks at the members on a GPU, which wait for it; on the CPU every step is looked at."""

OnStep = Callable[[int, int], None]


@dataclass
class _History:
    """What a member has to show so far; ``stop``: where and why it diverged; ``halted``: where it lost."""

    evals: list[list[float | None]] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    stop: tuple[int, str] | None = None
    halted: dict[str, Any] = field(default_factory=dict)


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
) -> list[Record]:
    """Trains and evaluates trials of one signature (``dse.pack.lineup``) together; one record each, in their order.

    ``on_step(step, steps)`` is called before each step. Divergence is a result (``diverged``) and leaves the other
    members as they are. An exception of the model or the numerics, or too little memory, splits the pack in halves that
    start anew; alone, it is a result too (``failed``, with its traceback). UserError (missing data, say) is raised: it
    concerns the sweep, not the trial.
    """
    names = list(configs) or [trial.recipe.name for trial in trials]
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    extras: list[dict[str, Any]]
    fingerprint, error = "", ""
    try:
        data, fingerprint = load(trials[0].task, data_dir, device)
        extras = _train(trials, data, device, on_step, halving)
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
            return [r for p in parts for r in run_pack(trials[p], names[p], data_dir, device, on_step, halving)]
        extras = [{"status": FAILED, "error": error}]
    seconds = round((time.perf_counter() - clock) / len(trials), 6)
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
    trials: Sequence[Trial], data: Any, device: str, on_step: OnStep | None, halving: Rule | None = None
) -> list[dict[str, Any]]:
    """Trains the pack; per trial, in the given order, the fields of its record that training decides."""
    kernels = use_kernels(device)
    order = ordered(trials, kernels)
    lineup = [trials[i] for i in order]
    program = Program(lineup, data, device, kernels)
    stepper = Stepper(program.step, program.pack.device)
    histories = [_History() for _ in lineup]
    t = lineup[0].training
    rungs = halving.at(t.steps) if halving else {}
    results: list[dict[str, Any]] = [{} for _ in trials]
    look = _LOOK if program.pack.device.type == "cuda" else 1
    _evaluate(program, histories, 0)
    for step in range(t.steps):
        if on_step:
            on_step(step, t.steps)
        if program.pack.scheduled and program.pack.reschedule(step, t.steps):
            stepper.reset()
        stepper()
        if (step + 1) % look == 0 and not program.alive.any():
            break
        due = bool(t.eval_every) and (step + 1) % t.eval_every == 0 and step + 1 < t.steps
        if due or step + 1 in rungs:
            _evaluate(program, histories, step + 1)
        if halving and step + 1 in rungs:
            gone = _halt(program, histories, halving, rungs[step + 1], step + 1)
            keep = [member for member in range(len(histories)) if member not in gone]
            if gone and keep:
                _write_down(program, stepper, histories, order, results, gone)
                program = survivors(program, keep)
                stepper = Stepper(program.step, program.pack.device)
                order, histories = [order[member] for member in keep], [histories[member] for member in keep]
    _bury(program, histories)
    if any(history.stop is None for history in histories):
        _evaluate(program, histories, t.steps)
        for history, more in zip(histories, program.pack.grades(data), strict=True):
            history.metrics |= more if history.stop is None else {}
    _write_down(program, stepper, histories, order, results, range(len(histories)))
    return results


def _halt(program: Program, histories: Sequence[_History], halving: Rule, rung: int, step: int) -> set[int]:
    """Who leaves the pack at a rung, where all were evaluated: those that lost, and those that have diverged."""
    metrics = [history.evals[-1][1] if history.stop is None else None for history in histories]
    lost = halving.losers(program.pack.trials, metrics)
    for member in lost:
        histories[member].halted = {"rung": rung, "step": step, "metric": metrics[member]}
    return {*lost, *(member for member, metric in enumerate(metrics) if metric is None)}


def _write_down(
    program: Program,
    stepper: Stepper,
    histories: Sequence[_History],
    order: Sequence[int],
    results: list[dict[str, Any]],
    members: Iterable[int],
) -> None:
    """What training decided about some members; ``order``: where in ``results`` each belongs."""
    losses, shared = program.log.cpu(), provenance(program, stepper)
    for member in members:
        own = _outcome(histories[member], losses[:, member].tolist(), program.pack.trials[member])
        results[order[member]] = own | {"pack": shared | {"position": member}}


def _outcome(history: _History, losses: Sequence[float], trial: Trial) -> dict[str, Any]:
    steps = trial.training.steps
    last = min(history.stop[0] if history.stop else history.halted.get("step", steps) - 1, steps - 1)
    every = max(1, steps // _POINTS)
    curve = [[step, losses[step]] for step in range(last + 1) if step % every == 0 or step == steps - 1]
    status = DIVERGED if history.stop else STOPPED if history.halted else OK
    fields = {
        "status": status,
        "metric": history.evals[-1][1] if status == OK else None,
        "metric_initial": history.evals[0][1] if history.evals else None,
        "metrics": history.metrics,
        "curve": curve,
        "evals": history.evals,
        "stopped": history.halted,
    }
    if history.stop is not None:
        fields |= {"diverged_at": history.stop[0], "diverged_where": history.stop[1]}
    return fields


def _bury(program: Program, histories: Sequence[_History]) -> None:
    """Writes down who has diverged in training since the last time."""
    for member, (step, history) in enumerate(zip(program.died.tolist(), histories, strict=True)):
        if step >= 0 and history.stop is None:
            history.stop = (step, program.first_bad(member))


def _evaluate(program: Program, histories: Sequence[_History], step: int) -> None:
    """Held-out metrics of the members that live; one that is not finite ends its member."""
    _bury(program, histories)
    metrics: Mapping[str, Sequence[float]] = program.evaluate()
    primary = program.task.metric
    for member, history in enumerate(histories):
        if history.stop is not None:
            continue
        history.metrics = {name: values[member] for name, values in metrics.items()}
        value = metrics[primary][member]
        history.evals.append([step, value])
        if not math.isfinite(value):
            history.stop = (step, f"held-out {primary} is {value}")
            program.kill(member)


__all__ = ["load", "run_pack", "run_trial", "versions"]
