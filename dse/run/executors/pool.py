"""A pool of long-lived Ray actors: an idle actor gets the next pack of the queue.

No Ray object is made per trial, and one method call per pack (1 to 3 ms). What is done about actors that die or hang
is decided by ``Attempts``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dse.errors import UserError
from dse.run.executors.actor import Actor
from dse.run.executors.attempts import Attempt, Attempts
from dse.run.executors.base import OnProgress, StopSignal, grace_of
from dse.run.executors.cluster import check_started, needs_gpu
from dse.run.executors.worker_log import append_lines
from dse.train.options import RunOptions

_POLL = 0.5  # seconds between questions for progress
_LAST_LINES = 3.0  # seconds in which idle actors may send at the end what they have printed
_PROGRESS = "watch"  # the concurrency group whose calls are answered while a pack runs


@dataclass
class _Call:
    """A method call that an actor is busy with: an attempt at a pack, or (None) ``ready``, while it starts.

    ``progress``: the reference of a question for its progress that is not answered yet; ``running``, ``done``: the last
    answer.
    """

    actor: Any
    attempt: Attempt | None = None
    progress: Any = None
    running: int = 0
    done: float = 0.0


class Pool:
    """The actors of one run, idle and busy. ``kind``: the class of its actors."""

    def __init__(self, options: RunOptions, attempts: Attempts, stop: StopSignal, kind: type[Actor] = Actor) -> None:
        # a worker sees the GPU that Ray gives it as the only one
        self._options = replace(options, device="cuda") if needs_gpu(options) else options
        self._attempts, self._queue, self._stop, self._kind = attempts, attempts.queue, stop, kind
        self._calls: dict[Any, _Call] = {}  # by their references
        self._idle: list[Any] = []
        self._unanswered: list[Any] = []  # questions for progress that were open when their pack had ended
        self._last_result = time.monotonic()

    def run(self, on_progress: OnProgress) -> None:
        """Runs the queue until it is exhausted, or until ``stop`` is set and no pack runs."""
        import ray

        while True:
            self._start_attempts()
            at_work = any(call.attempt is not None for call in self._calls.values())
            if not at_work and (self._stop.is_set() or self._queue.exhausted()):
                return  # an actor that still starts is not needed: for one of a node that died there may be no place
            if self._calls:
                answered, _ = ray.wait(list(self._calls), num_returns=1, timeout=_POLL)
            else:
                answered = []
                time.sleep(_POLL)
            for ref in answered:
                self._on_answer(ref, self._calls.pop(ref))
                self._last_result = time.monotonic()
            self._poll_progress()
            self._kill_overdue()
            calls = self._calls.values()
            on_progress(sum(call.running for call in calls), sum(call.done for call in calls))
            if calls and all(call.attempt is None for call in calls):
                check_started(self._last_result)

    def close(self) -> None:
        """Ends every actor, whatever it does; what idle ones have printed is still collected."""
        with suppress(Exception):  # Ray itself may be what has died
            self._collect_last_lines()
        for actor in [*self._idle, *(call.actor for call in self._calls.values())]:
            _kill(actor)
        self._idle.clear()
        self._calls.clear()

    def _start_attempts(self) -> None:
        """Packs for the idle actors, and actors for the packs that wait."""
        while self._idle and not self._stop.is_set() and (attempt := self._attempts.start()):
            self._start_attempt(self._idle.pop(), attempt)
        if self._stop.is_set() or self._idle or self._attempts.pausing:
            return
        starting = sum(call.attempt is None for call in self._calls.values())
        room = self._attempts.workers - len(self._calls)
        for _ in range(min(room, len(self._queue) - starting)):
            self._start_actor()

    def _start_attempt(self, actor: Any, attempt: Attempt) -> None:
        item = attempt.item
        trials, configs = [cell.trial for cell in item.cells], [cell.config for cell in item.cells]
        ref = actor.attempt.remote(trials, configs, item.width, item.target, item.splits)
        self._attempts.begin(attempt)
        self._calls[ref] = _Call(actor, attempt, running=len(item.cells))

    def _start_actor(self) -> None:
        import ray

        gpus = self._options.gpus if needs_gpu(self._options) else 0
        make: Any = ray.remote(concurrency_groups={_PROGRESS: 1})(self._kind)  # type: ignore[call-overload]
        actor: Any = make.options(num_cpus=1, num_gpus=gpus, max_restarts=0).remote(self._options)
        self._calls[actor.ready.remote()] = _Call(actor)

    def _on_answer(self, ref: Any, call: _Call) -> None:
        """A method call has come to its end, or its actor has died."""
        import ray

        try:
            result = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._on_failure(call, error)
        else:
            self._on_result(call, result)

    def _on_result(self, call: _Call, result: Any) -> None:
        """The actor is up, or done with its pack. Raises UserError where the pack has ended in one."""
        if isinstance(result, str):
            _kill(call.actor)
            raise UserError(result)
        if call.attempt is not None:
            self._unanswered += [] if call.progress is None else [call.progress]
            self._attempts.finish(call.attempt, result)
        self._idle.append(call.actor)

    def _on_failure(self, call: _Call, error: Exception) -> None:
        """The actor has died, or could not even run its method."""
        for actor in (call.actor, *self._idle):  # a trial is blamed only after an actor that had just answered died
            _kill(actor)
        self._idle.clear()
        if call.attempt is None:
            self._attempts.fail_to_start(error)
        else:
            self._attempts.fail(call.attempt, error)

    def _poll_progress(self) -> None:
        """Takes the answers of busy actors, and asks anew."""
        import ray

        refs = self._unanswered
        answers, self._unanswered = ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        self._append_lines(answers)
        for call in self._calls.values():
            if call.attempt is None:
                continue
            if call.progress is not None and ray.wait([call.progress], num_returns=1, timeout=0)[0]:
                try:
                    call.running, call.done, lines, records = ray.get(call.progress)
                except ray.exceptions.RayError:  # it has died: so has its ``attempt``
                    continue
                call.progress = None
                append_lines(self._options.results, lines)
                call.attempt.add(records)
            if call.progress is None and self._attempts.seconds(call.attempt) > _POLL:
                progress = call.actor.progress.options(concurrency_group=_PROGRESS)
                call.progress = progress.remote(self._stop.is_set(), grace_of(self._stop))

    def _kill_overdue(self) -> None:
        for call in self._calls.values():
            if call.attempt is not None and self._attempts.overdue(call.attempt):
                _kill(call.actor)

    def _collect_last_lines(self) -> None:
        import ray

        refs = [actor.progress.options(concurrency_group=_PROGRESS).remote(False) for actor in self._idle]
        refs += self._unanswered
        self._append_lines(ray.wait(refs, num_returns=len(refs), timeout=_LAST_LINES)[0] if refs else [])

    def _append_lines(self, answers: Sequence[Any]) -> None:
        """Logs what actors have printed, from their answers to a question for progress."""
        import ray

        for answer in answers:
            with suppress(ray.exceptions.RayError):
                append_lines(self._options.results, ray.get(answer)[2])


def _kill(actor: Any) -> None:
    import ray

    ray.kill(actor, no_restart=True)


__all__ = ["Pool"]
