"""The result of one trial, written as one line of JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Final, Literal

Status = Literal["ok", "diverged", "failed", "stopped"]
"""How a trial ended. A type for the checker alone: records, files and MLflow have the plain strings."""
OK: Final = "ok"
"""Trained to the end, and every loss and gradient was finite."""
DIVERGED: Final = "diverged"
"""A tensor was not finite, or the loss out of bounds: a result, as a good loss is one."""
FAILED: Final = "failed"
"""An exception, a worker that died, or too little memory or time: no result."""
STOPPED: Final = "stopped"
"""Compared with others at a rung, and not trained further."""
BY = "by"
"""In ``stopped``: who stopped a trial for good, where it was not compared with all others at once."""
LARGE = {"curve": list, "evals": list, "samples": dict, "probes": list, "gemm_checks": list}
"""The fields that fill most of the space, and what makes an empty one; they stand together in a record's line."""
LATER = ("gemm_checks", "code")
"""Fields that older records do not have: an empty one is left out of the line, so that those are written as they were
read."""
BRIEF = tuple(name for name in LARGE if name != "evals")
"""Those that a brief record is without; held-out metrics are few, and tell who passed a rung."""


@dataclass(frozen=True)
class Record:
    """The result of one trial.

    - ``baseline_uid``: the same trial under ``bf16`` (a sweep may name another baseline: its cells tell);
    - ``metric``: the final held-out value of the task's primary metric, lower is better; None unless status is ok;
    - ``metric_initial``: the same before the first step; ``metrics``: every held-out metric at the end;
    - ``metrics_bf16``: the same with the trained weights in BF16 arithmetic, as under the recipe ``bf16``; empty unless
      status is ok, and in records from before it was taken;
    - ``curve``: [step, training loss] pairs; ``evals``: [step, primary held-out metric] pairs;
    - ``samples``: pictures (``dse.tasks.pictures``) that the model has 'made' from the task's fixed noise, and of an
      unquantized trial 'real' ones; empty unless the task makes some and training came to its end;
    - ``probes``: what probes saw (``dse.probes.ProbeRow``), empty without any: provenance;
    - ``gemm_checks``: how layers' products compared with exact ones (``dse.alarms``): provenance;
    - ``diverged_at``, ``diverged_where``: the step, and the first tensor (loss, gradient, parameter) that was not
      finite or out of bounds; ``error``: a traceback;
    - ``stopped``: of a trial that came to a rung and lost there, or may go on yet: the rung, the step, and the held-out
      metric there;
    - ``config``: the recipe's display name and its overrides; it takes no part in the identity ``uid``;
    - ``attempt``: how many results the trial had when it was begun; of two records the later attempt counts;
    - ``seconds``: wall clock of training and evaluation, the trial's share of its pack; ``data``: fingerprint of it;
    - ``code``: digests of the techniques' code, and of the task's where it is a user's own
      (``dse.results.changed_code``): provenance, absent in records from before it was taken;
    - ``pack``: how it was computed (width of the pack, position, kernels, CUDA graph): provenance, never identity.
    """

    uid: str
    baseline_uid: str
    status: Status
    task: str
    recipe: str
    config: str
    seed: int
    trial: dict[str, Any]
    metric: float | None = None
    metric_initial: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    metrics_bf16: dict[str, float | None] = field(default_factory=dict)
    curve: list[list[float | None]] = field(default_factory=list)
    evals: list[list[float | None]] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)
    probes: list[list[Any]] = field(default_factory=list)
    gemm_checks: list[list[Any]] = field(default_factory=list)
    diverged_at: int | None = None
    diverged_where: str | None = None
    error: str | None = None
    stopped: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    seconds: float = 0.0
    started: str = ""
    device: str = ""
    host: str = ""
    data: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    pack: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """One line of JSON without its newline; what is not finite becomes null."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        own = {name: value for name, value in own.items() if value or name not in LATER}
        try:
            return json.dumps(own, separators=(",", ":"), allow_nan=False)
        except ValueError:
            return json.dumps(_finite(own), separators=(",", ":"), allow_nan=False)

    @classmethod
    def parse(cls, line: str) -> Record:
        """The record of a line; keys this version does not know are ignored. Raises ValueError for a torn line."""
        data = json.loads(line)
        kinds = field_kinds()
        try:
            known = {key: value for key, value in data.items() if key in kinds}
            if wrong := [key for key, value in known.items() if not _fits(value, kinds[key])]:
                raise ValueError(f"not a result record: {wrong[0]} is no {kinds[wrong[0]]}")
            return cls(**known)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a result record: {error}") from None


@cache
def field_kinds() -> dict[str, str]:
    """Field -> the name of its type, with ``| None`` where it may be absent; a status is a ``str`` in files."""
    return {f.name: "str" if f.type == "Status" else str(f.type) for f in fields(Record)}


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "list": (list,),
    "dict": (dict,),
}


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is of a field's type, as far as JSON tells."""
    plain = kind.removesuffix(" | None")
    return isinstance(value, _KINDS[plain.partition("[")[0]]) or (value is None and plain != kind)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
