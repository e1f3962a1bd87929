"""The training loop of one trial. Imports torch and the mathematics only, so it runs on a bare GPU machine."""

from __future__ import annotations

import math
import platform
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import dse
from dse.errors import UserError, nearest
from dse.linear import after_step, before_step, quantize_, set_clock
from dse.run.record import DIVERGED, FAILED, OK, Record
from dse.techniques.loss_scaling import LOSS_SCALINGS, Scaler
from dse.techniques.optimizers import OPTIMIZERS
from dse.trial import Trial
from tasks.base import Batch, Task, to_device

BOUND = 20.0
"""A training loss above this multiple of the first step's (plus one) counts as diverged."""
_POINTS = 100
"""Training losses kept per curve, at most about twice as many."""


@dataclass
class _History:
    """What a running trial has to show so far."""

    curve: list[list[float | None]] = field(default_factory=list)
    evals: list[list[float | None]] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)


class Diverged(Exception):
    """Training left the finite numbers, or the bound: the step, and the first tensor where it was seen."""

    def __init__(self, step: int, where: str) -> None:
        super().__init__(f"diverged at step {step}: {where}")
        self.step, self.where = step, where


def run_trial(
    trial: Trial,
    config: str = "",
    data_dir: Path | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
) -> Record:
    """Trains and evaluates one trial; whatever happens in it becomes a record.

    ``on_step(step, steps)`` is called before each step. Divergence is a result (``diverged``), and so is an exception
    of the model or the numerics (``failed``, with its traceback). UserError (missing data, say) is raised: it
    concerns the sweep, not the trial.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    history = _History()
    status, extra = OK, dict[str, Any]()
    fingerprint = ""
    try:
        data, fingerprint = load(trial.task, data_dir, device)
        _train(trial, data, device, history, on_step)
    except Diverged as stop:
        status, extra = DIVERGED, {"diverged_at": stop.step, "diverged_where": stop.where}
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - a trial's failure is data, kept whole
        status, extra = FAILED, {"error": traceback.format_exc()}
    return Record(
        uid=trial.uid,
        baseline_uid=trial.baseline().uid,
        status=status,
        task=trial.task.name,
        recipe=trial.recipe.name,
        config=config or trial.recipe.name,
        seed=trial.seed,
        trial=trial.spec,
        metric=history.evals[-1][1] if status == OK else None,
        metric_initial=history.evals[0][1] if history.evals else None,
        metrics=history.metrics,
        curve=history.curve,
        evals=history.evals,
        seconds=round(time.perf_counter() - clock, 3),
        started=started,
        device=_device_name(device),
        host=socket.gethostname(),
        data=fingerprint,
        versions=versions(),
        **extra,
    )


@lru_cache(maxsize=4)
def load(task: Task[Any], data_dir: Path | None, device: str) -> tuple[Any, str]:
    """The task's data on ``device`` and its fingerprint, kept for the next trial of this process."""
    data = task.load(data_dir)
    return to_device(data, device), task.data_fingerprint(data)


def build_model(trial: Trial, data: Any, device: str) -> nn.Module:
    """The seeded, quantized model of a trial."""
    torch.manual_seed(trial.seed)
    model = trial.task.model(data).to(device)
    return quantize_(model, trial.recipe, exempt=trial.task.exempt())


def _train(trial: Trial, data: Any, device: str, history: _History, on_step: Callable[[int, int], None] | None) -> None:
    task, t = trial.task, trial.training
    if t.optimizer not in OPTIMIZERS:
        raise UserError(f"training.optimizer: unknown optimizer {t.optimizer!r}{nearest(t.optimizer, OPTIMIZERS)}")
    if t.loss_scaling not in LOSS_SCALINGS:
        raise UserError(f"training.loss_scaling: unknown {t.loss_scaling!r}{nearest(t.loss_scaling, LOSS_SCALINGS)}")
    scaling = LOSS_SCALINGS[t.loss_scaling]
    scaler = scaling().start() if scaling else None
    model = build_model(trial, data, device)
    optimizer = OPTIMIZERS[t.optimizer](model.parameters(), t)
    every = max(1, t.steps // _POINTS)
    first = math.nan
    _evaluate(trial, model, data, 0, history)
    for step in range(t.steps):
        if on_step:
            on_step(step, t.steps)
        set_clock(model, trial.seed, step, t.steps)
        for group in optimizer.param_groups:
            group["lr"] = t.lr_at(step)
        loss = training_step(task, model, optimizer, task.batch(data, trial.seed, step, t.batch), t.clip, scaler)
        value = float(loss)
        first = value if step == 0 else first
        if step % every == 0 or step == t.steps - 1:
            history.curve.append([step, value])
        if not value <= BOUND * (abs(first) + 1):
            raise Diverged(step, _first_bad(model, value))
        if t.eval_every and (step + 1) % t.eval_every == 0 and step + 1 < t.steps:
            _evaluate(trial, model, data, step + 1, history)
    _evaluate(trial, model, data, t.steps, history)


def training_step(
    task: Task[Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    clip: float,
    scaler: Scaler | None = None,
) -> Tensor:
    """One optimizer step with the weight rules around it; returns the detached, unscaled loss.

    A ``scaler`` that finds a gradient which is not finite skips the step.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = task.loss(model, batch)
    (scaler.scale(loss) if scaler else loss).backward()
    good = scaler.unscale_(model.parameters()) if scaler else True
    if good:
        if clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        before_step(model)
        optimizer.step()
        after_step(model)
    if scaler:
        scaler.update(good)
    return loss.detach()


def _evaluate(trial: Trial, model: nn.Module, data: Any, step: int, history: _History) -> None:
    model.eval()
    set_clock(model, trial.seed, step)
    metrics = trial.task.evaluate(model, data)
    model.train()
    value = metrics[trial.task.metric]
    history.metrics = dict(metrics)
    history.evals.append([step, value])
    if not math.isfinite(value):
        raise Diverged(step, f"held-out {trial.task.metric} is {value}")


def _first_bad(model: nn.Module, loss: float) -> str:
    """Names the first parameter or gradient that is not finite, in the model's order; the loss when all are."""
    for name, p in model.named_parameters():
        if not p.isfinite().all():
            return f"parameter {name} is not finite"
        if p.grad is not None and not p.grad.isfinite().all():
            return f"gradient of {name} is not finite"
    return f"training loss {loss:g}"


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.processor() or platform.machine()})"


def versions() -> dict[str, str]:
    """Versions of everything that decides a trial's numbers."""
    return {
        "dse": dse.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


__all__ = ["Diverged", "load", "run_trial", "training_step", "versions"]
