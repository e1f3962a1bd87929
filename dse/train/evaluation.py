"""Evaluation of a pack: held-out metrics, samples, and both in BF16 arithmetic, for all members at once.

Where this fails, the pack is evaluated in halves, which need less memory, down to single members; the reason is printed
and kept for the records. Members are independent, so a half gives the same bits for its members as the whole pack (on
the CPU, and by our kernels).
"""

from __future__ import annotations

import sys
import traceback as tracebacks
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from dse.errors import UserError
from dse.kernels.alignment import apart
from dse.numerics.registry import to_data
from dse.pack.state import narrowed
from dse.pack.step import TrainStep
from dse.recipes.bf16 import BF16
from dse.results.samples import MADE, REAL
from dse.train.context import last_line
from dse.train.history import History

T = TypeVar("T")
HALVED = "evaluated_in_halves_because"
"""In a record's ``pack``: why some evaluation was made in narrower packs than the training."""


@dataclass(frozen=True)
class MemberFailure:
    """The error of a member that could not be evaluated even alone."""

    error: Exception
    traceback: str


def held_out(train_step: TrainStep, histories: Sequence[History]) -> list[dict[str, float] | MemberFailure]:
    """Every held-out metric of each member."""
    return _by_halves(train_step, histories, _metrics)


def add_samples(train_step: TrainStep, histories: Sequence[History]) -> None:
    """Generates and grades samples for the members that have not diverged, and keeps a few pictures of them."""
    data, task = train_step.data, train_step.task
    samples = _by_halves(train_step, histories, _samples)
    for history, trial, made in zip(histories, train_step.pack.trials, samples, strict=True):
        if history.diverged is not None or history.error or made is None:
            continue
        with _noted(history, "samples_missing_because"):
            own = _value(made)
            history.metrics |= task.grade(data, own)
            unquantized = trial.uid == trial.baseline().uid
            found = {MADE: task.show(data, own), REAL: task.real(data) if unquantized else None}
            history.samples = {name: pictures.plain() for name, pictures in found.items() if pictures}


def add_bf16_metrics(train_step: TrainStep, histories: Sequence[History]) -> None:
    """Repeats the last evaluation with the weights in BF16 arithmetic; members trained in BF16 have it already."""
    trained = [history.diverged is None and not history.error for history in histories]
    in_bf16 = [to_data(trial.recipe) == to_data(BF16) for trial in train_step.pack.trials]
    wanted = any(own and not known for own, known in zip(trained, in_bf16, strict=True))
    inferred = _by_halves(train_step, histories, _in_bf16) if wanted else [({}, None) for _ in histories]
    for member, history in enumerate(histories):
        if trained[member] and in_bf16[member]:
            history.metrics_bf16 = dict(history.metrics)
        elif trained[member]:
            with _noted(history, "metrics_bf16_missing_because"):
                metrics, made = _value(inferred[member])
                graded = {} if made is None else train_step.task.grade(train_step.data, made)
                history.metrics_bf16 = {**metrics, **graded}


def _metrics(train_step: TrainStep) -> list[dict[str, float]]:
    metrics = train_step.evaluate()
    return [{name: values[i] for name, values in metrics.items()} for i in range(len(train_step.pack.trials))]


def _samples(train_step: TrainStep) -> list[Tensor | None]:
    """Each member's samples; None where the task generates nothing."""
    samples = train_step.pack.samples(train_step.data)
    return [None] * len(train_step.pack.trials) if samples is None else list(apart(samples))


def _in_bf16(train_step: TrainStep) -> list[tuple[dict[str, float], Tensor | None]]:
    """Metrics and samples with the weights in BF16 arithmetic."""
    with train_step.pack.as_baseline():
        return list(zip(_metrics(train_step), _samples(train_step), strict=True))


def _by_halves(
    train_step: TrainStep, histories: Sequence[History], evaluate: Callable[[TrainStep], Sequence[T]]
) -> list[T | MemberFailure]:
    """The results of ``evaluate`` for every member, from halves of the pack where it fails. Raises its UserError.

    Why it failed for several members is printed, and noted in their histories.
    """
    try:
        return list(evaluate(train_step))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - too little memory, a kernel's limit, or a mistake in the task
        failure = MemberFailure(error, tracebacks.format_exc())
    members = len(train_step.pack.trials)
    if members == 1:
        return [failure]
    reason = f"a pack of {members} trials was evaluated in halves: {last_line(failure.traceback)}"
    if any(HALVED not in history.missing for history in histories):
        print(reason, file=sys.stderr, flush=True)  # the next evaluation may fail in the same way
    for history in histories:
        history.missing.setdefault(HALVED, reason)
    failure.error.__traceback__ = None  # its frames hold tensors
    if train_step.pack.device.type == "cuda":
        torch.cuda.empty_cache()
    found: list[T | MemberFailure] = []
    for part in (range(members // 2), range(members // 2, members)):
        try:
            half = narrowed(train_step, part)
        except Exception:  # noqa: BLE001 - no memory for a copy either
            found += [failure] * len(part)
        else:
            found += _by_halves(half, [histories[member] for member in part], evaluate)
    return found


@contextmanager
def _noted(history: History, name: str) -> Iterator[None]:
    """Within this context an error is caught, and noted in the member's history."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the training and its last metric stand without it
        history.missing[name] = last_line(f"{type(error).__name__}: {error}")


def _value(found: T | MemberFailure) -> T:
    """The result of a member. Raises its error where it could not be evaluated."""
    if isinstance(found, MemberFailure):
        raise found.error
    return found


__all__ = ["HALVED", "MemberFailure", "add_bf16_metrics", "add_samples", "held_out"]
