"""State of one running pack: its train step, each member's results so far, and which members have stopped.

This is what a checkpoint stores.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch

from dse.pack.cuda_graph import GraphedStep
from dse.pack.grouping import member_order, use_kernels
from dse.pack.starts import ModelWeights, Weights
from dse.pack.state import MemberRows, State, load_members, narrowed, state
from dse.pack.step import TrainStep
from dse.train.context import last_line
from dse.train.evaluation import MemberFailure, add_bf16_metrics, add_samples, held_out
from dse.train.history import History
from dse.train.machine_use import MachineUse
from dse.train.provenance import provenance
from dse.train.warmup import compile_step
from dse.trial import Trial

_CHECK_EVERY = 50
"""Steps between checks for divergence of all members on a GPU, which wait for it; on the CPU every step is checked."""

OnError = Literal["raise", "fail", "note"]
"""An evaluation that fails for one member alone: raise its error, let its trial fail unless a later evaluation
succeeds, or leave the evaluation out and note the reason in its record."""


class PackRun:
    """Training of ``trials`` of one signature, which the loop advances step by step.

    ``steps_done``: steps that have been trained, of ``steps``; ``facts``: additions to the provenance of every record.
    ``weights``: what the trials need of others. ``train_step`` and ``graphed_step`` are replaced when members leave;
    ``members``: the trials that they train.
    """

    def __init__(
        self, trials: Sequence[Trial], data: Any, device: str, weights: Weights = MappingProxyType({})
    ) -> None:
        self.trials, self.steps = trials, trials[0].training.steps
        self.steps_done = 0
        self._use = MachineUse(torch.device(device))
        self.facts: dict[str, Any] = {}
        self._results: list[dict[str, Any]] = [{} for _ in trials]
        kernels = use_kernels(device)
        order = member_order(trials, kernels)
        train_step = TrainStep([trials[place] for place in order], data, device, kernels, weights)
        self._continue_with(train_step, order, [History() for _ in order])

    @property
    def members(self) -> tuple[Trial, ...]:
        return self.train_step.pack.trials

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """Per trial, in the given order, the fields of its record that training decides."""
        return [own | {"pack": own["pack"] | self.facts} for own in self._results]

    def compile_kernels(self) -> None:
        """On a GPU, compiles the kernels that are not in Triton's cache yet, in several processes."""
        found = compile_step(self.train_step)
        if found.kernels:
            self.facts["compiled_kernels"] = {"kernels": found.kernels, "seconds": round(found.seconds, 1)}

    def update_phases(self) -> None:
        """Lets precision schedules and decompositions choose the numerics of the next step."""
        pack = self.train_step.pack
        pack.refresh(self.steps_done)
        if pack.scheduled and pack.reschedule(self.steps_done, self.steps):
            self.graphed_step.reset()

    def step(self) -> bool:
        """Trains all members by one step. False once all are known to have diverged."""
        self.graphed_step()
        self.steps_done += 1
        every = _CHECK_EVERY if self.train_step.pack.device.type == "cuda" else 1
        return self.steps_done % every != 0 or bool(self.train_step.alive.any())

    def evaluate(self, on_error: OnError = "raise") -> None:
        """Held-out metrics of the members that have none at this step; one that is not finite ends its member."""
        self.record_divergence()
        metrics, primary = held_out(self.train_step, self._histories), self.train_step.task.metric
        for member, (history, found) in enumerate(zip(self._histories, metrics, strict=True)):
            if history.diverged is not None or history.metric_at(self.steps_done) is not None:
                continue
            if isinstance(found, MemberFailure):
                self._note_failure(history, found, on_error)
                continue
            history.metrics, history.error = dict(found), ""
            value = found[primary]
            history.evals.append([self.steps_done, value])
            if not math.isfinite(value):
                history.diverged = (self.steps_done, f"held-out {primary} is {value}")
                self.train_step.freeze(member)

    def metrics(self) -> list[float | None]:
        """Each member's primary held-out metric at this step; None where it has diverged or was not evaluated."""
        found = [(history, history.metric_at(self.steps_done)) for history in self._histories]
        return [metric if history.diverged is None else None for history, metric in found]

    def record_divergence(self) -> None:
        """Records the step and the cause for members that the train step has frozen since the last call."""
        for member, (step, history) in enumerate(
            zip(self.train_step.diverged_at.tolist(), self._histories, strict=True)
        ):
            if step >= 0 and history.diverged is None:
                history.diverged = (step, self.train_step.divergence_cause(member))

    def drop(self, members: Collection[int], rung: int) -> None:
        """Ends some members at a rung, and continues with the others in a narrower pack."""
        keep = [member for member in range(len(self.members)) if member not in members]
        remaining = narrowed(self.train_step, keep)
        self._stop(members, rung)
        order, histories = [self._order[member] for member in keep], [self._histories[member] for member in keep]
        self._continue_with(remaining, order, histories)

    def pause(self, rung: int) -> None:
        """Ends the run at a rung: the results are those of trials that stopped there, and may continue later."""
        self.record_divergence()
        if any(history.diverged is None and history.metric_at(self.steps_done) is None for history in self._histories):
            self.evaluate("fail")
        self._stop(range(len(self.members)), rung)

    def finish(self) -> None:
        """Ends the run after its last step, with the last evaluation."""
        self.record_divergence()
        if any(history.diverged is None for history in self._histories):
            self.evaluate("fail")
            add_samples(self.train_step, self._histories)
            add_bf16_metrics(self.train_step, self._histories)
        self._write_results(range(len(self.members)))

    def trained(self) -> Iterator[tuple[Trial, ModelWeights]]:
        """The members that have not diverged or failed, each with a copy of its parameters on the CPU, by name."""
        for member, history in enumerate(self._histories):
            if history.diverged is None and not history.error:
                views = self.train_step.pack.views.items()
                yield self.members[member], {name: view[member].detach().cpu().clone() for name, view in views}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data for a checkpoint."""
        uids = [trial.uid for trial in self.trials]
        return state(self.train_step).plain() | {
            "step": self.steps_done,
            "members": [uids[place] for place in self._order],
            "histories": [history.state_dict() for history in self._histories],
            "results": {uid: result for uid, result in zip(uids, self._results, strict=True) if result},
        }

    def load_state_dict(self, *states: Mapping[str, Any]) -> None:
        """Continues from states of other packs, all at one step, that hold these trials among their members.

        Only for a run that has not begun. Raises StateMismatch, KeyError, ValueError or TypeError, and changes
        nothing, where a state does not fit.
        """
        uids = [trial.uid for trial in self.trials]
        home = {uid: (saved, row) for saved in states for row, uid in enumerate(saved["members"])}
        ended = {uid: result for saved in states for uid, result in saved["results"].items()}
        order = [place for place in self._order if uids[place] in home]
        rows = [home[uids[place]] for place in order]
        histories = [History.from_state(saved["histories"][row]) for saved, row in rows]
        results = [{} if uid in home else dict(ended[uid]) for uid in uids]
        (step,) = {int(saved["step"]) for saved in states}
        train_step = self.train_step
        if len(order) < len(self._order):
            train_step = narrowed(train_step, [i for i, place in enumerate(self._order) if place in order])
        sources = [
            MemberRows(State.of(saved), {i: row for i, (own, row) in enumerate(rows) if own is saved})
            for saved in states
        ]
        load_members(train_step, *sources)
        self._continue_with(train_step, order, histories)
        self._results, self.steps_done = results, step

    def _note_failure(self, history: History, failure: MemberFailure, on_error: OnError) -> None:
        if on_error == "raise":
            raise failure.error
        if on_error == "fail":
            history.error = failure.traceback
        else:
            history.missing["evals_missing_because"] = f"step {self.steps_done}: {last_line(failure.traceback)}"

    def _continue_with(self, train_step: TrainStep, order: list[int], histories: list[History]) -> None:
        """``order``: each member's place among the trials. A CUDA graph belongs to one train step."""
        self.train_step, self.graphed_step = train_step, GraphedStep(train_step.step, train_step.pack.device)
        self._order, self._histories = order, histories

    def _stop(self, members: Iterable[int], rung: int) -> None:
        """Writes the results of members that stop at a rung; those without a metric there have diverged or failed."""
        metrics = self.metrics()
        for member in members:
            if (metric := metrics[member]) is not None:
                self._histories[member].stopped = {"rung": rung, "step": self.steps_done, "metric": metric}
        self._write_results(members)

    def _write_results(self, members: Iterable[int]) -> None:
        losses, shared = self.train_step.log.cpu(), provenance(self.train_step, self.graphed_step)
        shared |= self._use.facts()
        for member in members:
            history = self._histories[member]
            own = history.outcome(losses[:, member], self.members[member])
            self._results[self._order[member]] = own | {"pack": shared | {"position": member} | history.missing}


__all__ = ["OnError", "PackRun"]
