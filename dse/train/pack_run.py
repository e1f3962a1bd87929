"""A pack on its way: the program, what its members have to show, and who has left; a checkpoint holds all of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from dse.errors import UserError
from dse.kernels.alignment import apart
from dse.numerics.registry import to_data
from dse.pack.cuda_graph import GraphedStep
from dse.pack.grouping import member_order, use_kernels
from dse.pack.state import MemberRows, State, load_members, narrowed, state
from dse.pack.step import TrainStep
from dse.recipes.bf16 import BF16
from dse.results.record import DIVERGED, FAILED, OK, STOPPED
from dse.results.samples import MADE, REAL
from dse.train.context import last_line
from dse.train.halving import HalvingRule
from dse.train.partial import MemberFailure, by_halves, value_of
from dse.train.provenance import provenance
from dse.trial import Trial

_POINTS = 100
"""Training losses kept per curve, at most about twice as many."""


@dataclass
class History:
    """What a member has to show so far; ``stop``: where and why it diverged; ``halted``: where it lost.

    ``baseline``: the last metrics with the weights in BF16 arithmetic. ``error``: why there is no last evaluation, a
    traceback; ``missing``: what else could not be told, and why, for the record's provenance.
    """

    evals: list[list[float | None]] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    baseline: dict[str, float | None] = field(default_factory=dict)
    stop: tuple[int, str] | None = None
    halted: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    missing: dict[str, str] = field(default_factory=dict)


class PackRun:
    """``trials`` of one signature; ``results``: per trial, in their order, what training decides about its record.

    ``step``: steps that have been made. ``program`` and ``stepper`` are others after members have left.
    """

    def __init__(self, trials: Sequence[Trial], data: Any, device: str) -> None:
        self.trials = trials
        self.step = 0
        self.results: list[dict[str, Any]] = [{} for _ in trials]
        kernels = use_kernels(device)
        self._enter(member_order(trials, kernels), data, device, kernels)

    def save(self) -> dict[str, Any]:
        """Tensors and plain data, from which ``restore`` goes on."""
        uids = [trial.uid for trial in self.trials]
        return state(self.program).plain() | {
            "step": self.step,
            "members": [uids[place] for place in self._order],
            "histories": [asdict(history) for history in self._histories],
            "results": {uid: result for uid, result in zip(uids, self.results, strict=True) if result},
        }

    def restore(self, *saves: Mapping[str, Any]) -> None:
        """Goes on where saved courses were, all at one step, that had these trials among them: before the first step
        only.

        Raises Misfit, KeyError, ValueError or TypeError, and is as good as new then, when they are none of theirs.
        """
        uids = [trial.uid for trial in self.trials]
        home = {uid: (saved, row) for saved in saves for row, uid in enumerate(saved["members"])}
        over = {uid: result for saved in saves for uid, result in saved["results"].items()}
        order = [place for place in self._order if uids[place] in home]
        rows = [home[uids[place]] for place in order]
        histories = [History(**saved["histories"][row]) for saved, row in rows]
        results = [{} if uid in home else dict(over[uid]) for uid in uids]
        (step,) = {int(saved["step"]) for saved in saves}
        program = self.program
        if len(order) < len(self._order):
            keep = [place for place, at in enumerate(self._order) if at in order]
            program = narrowed(program, keep)
        pieces = [{i: row for i, (own, row) in enumerate(rows) if own is saved} for saved in saves]
        load_members(program, *(MemberRows(State.of(saved), own) for saved, own in zip(saves, pieces, strict=True)))
        self._go_on_with(program, order, histories)
        self.results, self.step = results, step

    def bury(self) -> None:
        """Writes down who has diverged in training since the last time."""
        for member, (step, history) in enumerate(zip(self.program.diverged_at.tolist(), self._histories, strict=True)):
            if step >= 0 and history.stop is None:
                history.stop = (step, self.program.divergence_cause(member))

    def evaluate(self, spare: bool = False) -> None:
        """Held-out metrics of the members that live; one that is not finite ends its member.

        Where it fails for all members at once (too little memory, say), they are evaluated in halves. Where it fails
        for one alone, the error is raised, or with ``spare`` kept in its history: its training is not to be lost.
        """
        self.bury()
        metrics = by_halves(self.program, _evaluated)
        primary = self.program.task.metric
        for member, history in enumerate(self._histories):
            found = metrics[member]
            if history.stop is not None:
                continue
            if isinstance(found, MemberFailure):
                if not spare:
                    raise found.error
                history.error = found.traceback
                continue
            history.metrics, history.error = dict(found), ""
            value = found[primary]
            history.evals.append([self.step, value])
            if not math.isfinite(value):
                history.stop = (self.step, f"held-out {primary} is {value}")
                self.program.freeze(member)

    def halve(self, halving: HalvingRule, rung: int) -> None:
        """Lets those leave that lost at a rung, where all were evaluated, and those that have diverged."""
        metrics = [history.evals[-1][1] if history.stop is None else None for history in self._histories]
        lost = halving.losers(self.program.pack.trials, metrics)
        for member in lost:
            self._histories[member].halted = {"rung": rung, "step": self.step, "metric": metrics[member]}
        gone = {*lost, *(member for member, metric in enumerate(metrics) if metric is None)}
        keep = [member for member in range(len(self._histories)) if member not in gone]
        if gone and keep:
            self._write_down(gone)
            order, histories = ([own[member] for member in keep] for own in (self._order, self._histories))
            self._go_on_with(narrowed(self.program, keep), order, histories)  # type: ignore[arg-type]

    def wait(self, rung: int) -> None:
        """Everybody's result as that of a trial that stops at a rung, where all were evaluated; it may go on later."""
        for history in self._histories:
            if history.stop is None:
                history.halted = {"rung": rung, "step": self.step, "metric": history.evals[-1][1]}
        self._write_down(range(len(self._histories)))

    def finish(self) -> None:
        """The last evaluation, and everybody's result."""
        self.bury()
        if any(history.stop is None for history in self._histories):
            self.step = self.program.steps
            self.evaluate(spare=True)
            self._look_at_samples()
            self._infer_in_bf16()
        self._write_down(range(len(self._histories)))

    def look(self) -> None:
        """An evaluation on the way, which is only shown: where it fails, it is left out, and the record says so."""
        errors = [history.error for history in self._histories]
        self.evaluate(spare=True)
        for history, before in zip(self._histories, errors, strict=True):
            if history.error:
                history.missing["evals_missing_because"] = f"step {self.step}: {last_line(history.error)}"
            history.error = before

    def _look_at_samples(self) -> None:
        """What the members that live make of the task's prompts: graded, and a little of it kept."""
        data, task = self.program.data, self.program.task
        samples = by_halves(self.program, _sampled)
        for history, trial, made in zip(self._histories, self.program.pack.trials, samples, strict=True):
            if history.stop is not None or history.error or made is None:
                continue
            with _spared(history, "samples_missing_because"):
                own = value_of(made)
                history.metrics |= task.grade(data, own)
                unquantized = trial.uid == trial.baseline().uid
                found = {MADE: task.show(data, own), REAL: task.real(data) if unquantized else None}
                history.samples = {name: pictures.plain() for name, pictures in found.items() if pictures}

    def _infer_in_bf16(self) -> None:
        """The last metrics once more, with the weights in BF16 arithmetic; what is trained in it has them already."""
        program, trials = self.program, self.program.pack.trials
        lives = [history.stop is None and not history.error for history in self._histories]
        known = [to_data(trial.recipe) == to_data(BF16) for trial in trials]
        wanted = any(alive and not own for alive, own in zip(lives, known, strict=True))
        inferred = by_halves(program, _inferred) if wanted else [({}, None) for _ in trials]
        for member, history in enumerate(self._histories):
            if lives[member] and known[member]:
                history.baseline = dict(history.metrics)
            elif lives[member]:
                with _spared(history, "metrics_bf16_missing_because"):
                    found, own = value_of(inferred[member])
                    history.baseline = {**found, **({} if own is None else program.task.grade(program.data, own))}

    def _enter(self, order: list[int], data: Any, device: str, kernels: bool) -> None:
        program = TrainStep([self.trials[place] for place in order], data, device, kernels)
        self._go_on_with(program, order, [History() for _ in order])

    def _go_on_with(self, program: TrainStep, order: list[int], histories: list[History]) -> None:
        """``order``: where among the trials each member belongs. A CUDA graph is of one program only."""
        self.program, self.stepper = program, GraphedStep(program.step, program.pack.device)
        self._order, self._histories = order, histories

    def _write_down(self, members: Iterable[int]) -> None:
        """What training decided about some members."""
        losses, shared = self.program.log.cpu(), provenance(self.program, self.stepper)
        for member in members:
            own = _outcome(self._histories[member], losses[:, member], self.program.pack.trials[member])
            facts = shared | {"position": member} | self._histories[member].missing
            self.results[self._order[member]] = own | {"pack": facts}


def _evaluated(program: TrainStep) -> list[dict[str, float]]:
    """Every held-out metric, a dictionary a member."""
    metrics = program.evaluate()
    return [{name: values[member] for name, values in metrics.items()} for member in range(len(program.pack.trials))]


def _sampled(program: TrainStep) -> list[Tensor | None]:
    """What each member makes; None where the task makes nothing."""
    samples = program.pack.samples(program.data)
    return [None] * len(program.pack.trials) if samples is None else list(apart(samples))


def _inferred(program: TrainStep) -> list[tuple[dict[str, float], Tensor | None]]:
    """Metrics and samples with the weights in BF16 arithmetic."""
    with program.pack.as_baseline():
        return list(zip(_evaluated(program), _sampled(program), strict=True))


@contextmanager
def _spared(history: History, name: str) -> Iterator[None]:
    """What goes wrong inside is noted in the history."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the training and its last metric stand without it
        history.missing[name] = last_line(f"{type(error).__name__}: {error}")


def _outcome(history: History, losses: Tensor, trial: Trial) -> dict[str, Any]:
    steps = trial.training.steps
    last = min(history.stop[0] if history.stop else history.halted.get("step", steps) - 1, steps - 1)
    every = max(1, steps // _POINTS)
    shown = [*range(0, last + 1, every)]
    if last == steps - 1 and last % every:
        shown.append(last)
    curve = [
        [step, loss] for step, loss in zip(shown, losses[torch.tensor(shown, dtype=torch.int64)].tolist(), strict=True)
    ]
    status = DIVERGED if history.stop else FAILED if history.error else STOPPED if history.halted else OK
    fields = {
        "status": status,
        "metric": history.evals[-1][1] if status == OK else None,
        "metric_initial": next((value for step, value in history.evals[:1] if step == 0), None),
        "metrics": history.metrics,
        "metrics_bf16": history.baseline,
        "curve": curve,
        "evals": history.evals,
        "stopped": history.halted,
        "samples": history.samples,
    }
    if status == FAILED:
        fields["error"] = history.error
    if history.stop is not None:
        fields |= {"diverged_at": history.stop[0], "diverged_where": history.stop[1]}
    return fields


__all__ = ["History", "PackRun"]
