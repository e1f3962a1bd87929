"""What is asked of a trained pack at once, and in halves where that fails: a narrower pack needs less memory.

Members are independent, so a half tells the same bits of its members as the whole (on the CPU, and by our kernels).
"""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from dse.errors import UserError
from dse.pack.state import narrowed
from dse.pack.step import TrainStep

T = TypeVar("T")


@dataclass(frozen=True)
class MemberFailure:
    """Why a member alone could not be asked."""

    error: Exception
    traceback: str


def by_halves(program: TrainStep, ask: Callable[[TrainStep], Sequence[T]]) -> list[T | MemberFailure]:
    """What ``ask`` tells of every member. Raises UserError as it does."""
    try:
        return list(ask(program))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - too little memory, a kernel's limit, or a mistake in the task
        failure = MemberFailure(error, tracebacks.format_exc())
    members = len(program.pack.trials)
    if members == 1:
        return [failure]
    failure.error.__traceback__ = None  # its frames hold tensors
    if program.pack.device.type == "cuda":
        torch.cuda.empty_cache()
    found: list[T | MemberFailure] = []
    for part in (range(members // 2), range(members // 2, members)):
        found += _of_some(program, part, ask, failure)
    return found


def value_of(found: T | MemberFailure) -> T:
    """What was told of a member. Raises its error where it could not be asked."""
    if isinstance(found, MemberFailure):
        raise found.error
    return found


def _of_some(
    program: TrainStep, part: Sequence[int], ask: Callable[[TrainStep], Sequence[T]], failure: MemberFailure
) -> Sequence[T | MemberFailure]:
    try:
        some = narrowed(program, part)
    except Exception:  # noqa: BLE001 - no memory for a copy either
        return [failure] * len(part)
    return by_halves(some, ask)


__all__ = ["MemberFailure", "by_halves", "value_of"]
