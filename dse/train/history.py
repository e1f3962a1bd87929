"""Results of one member of a running pack: its evaluations so far, how its training ended, and its record's fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dse.results.record import DIVERGED, FAILED, OK, STOPPED
from dse.trial import Trial

_POINTS = 100
"""Training losses kept per curve, at most about twice as many."""
_KEYS = {
    "evals": "evals",
    "metrics": "metrics",
    "metrics_bf16": "baseline",
    "diverged": "stop",
    "stopped": "halted",
    "samples": "samples",
    "error": "error",
    "missing": "missing",
}
"""Field -> its key in checkpoints."""


@dataclass
class History:
    """What is known about a member so far.

    - ``evals``: [step, primary held-out metric]; ``metrics``: all held-out metrics of the last evaluation;
    - ``metrics_bf16``: the last metrics with the weights in BF16 arithmetic; ``samples``: pictures from the model;
    - ``diverged``: the step of divergence and its cause; ``stopped``: the rung at which training stopped;
    - ``error``: why the evaluation that decides the result is missing, a traceback;
    - ``missing``: why other parts of the result are missing or were computed otherwise, by their names in the record's
      provenance.
    """

    evals: list[list[float | None]] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    metrics_bf16: dict[str, float | None] = field(default_factory=dict)
    diverged: tuple[int, str] | None = None
    stopped: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """The fields as plain data, by their keys in checkpoints."""
        return {key: getattr(self, name) for name, key in _KEYS.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> History:
        """The inverse of ``state_dict``. Raises KeyError for an unknown key."""
        names = {key: name for name, key in _KEYS.items()}
        return cls(**{names[key]: value for key, value in state.items()})

    def metric_at(self, step: int) -> float | None:
        """The primary held-out metric, where the last evaluation was made at ``step``."""
        return self.evals[-1][1] if self.evals and self.evals[-1][0] == step else None

    def outcome(self, losses: Tensor, trial: Trial) -> dict[str, Any]:
        """The fields of the record that training decides; ``losses`` [steps]: of every step."""
        if self.diverged:
            status = DIVERGED
        else:
            status = FAILED if self.error else STOPPED if self.stopped else OK
        fields = {
            "status": status,
            "metric": self.evals[-1][1] if status == OK else None,
            "metric_initial": next((value for step, value in self.evals[:1] if step == 0), None),
            "metrics": self.metrics,
            "metrics_bf16": self.metrics_bf16,
            "curve": self._curve(losses, trial.training.steps),
            "evals": self.evals,
            "stopped": self.stopped,
            "samples": self.samples,
        }
        if status == FAILED:
            fields["error"] = self.error
        if self.diverged is not None:
            fields |= {"diverged_at": self.diverged[0], "diverged_where": self.diverged[1]}
        return fields

    def _curve(self, losses: Tensor, steps: int) -> list[list[float]]:
        """[step, training loss] of about ``_POINTS`` steps, up to the last one that was trained."""
        last = min(self.diverged[0] if self.diverged else self.stopped.get("step", steps) - 1, steps - 1)
        every = max(1, steps // _POINTS)
        shown = [*range(0, last + 1, every)]
        if last == steps - 1 and last % every:
            shown.append(last)
        values = losses[torch.tensor(shown, dtype=torch.int64)].tolist()
        return [[step, loss] for step, loss in zip(shown, values, strict=True)]


__all__ = ["History"]
